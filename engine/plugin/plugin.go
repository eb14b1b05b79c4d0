// Package plugin lists every plugin of the gateway in the order its hooks run.
//
// A plugin is a folder beside this file and one line in All. Its place in the
// list is its priority: Request hooks run down the list until one answers,
// Response hooks run back up it, Log hooks all run.
package plugin

import (
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/canary"
	"github.com/sluice-gateway/sluice/engine/plugin/concurrencylimiting"
	"github.com/sluice-gateway/sluice/engine/plugin/correlationid"
	"github.com/sluice-gateway/sluice/engine/plugin/customcacheinvalidator"
	"github.com/sluice-gateway/sluice/engine/plugin/filelog"
	"github.com/sluice-gateway/sluice/engine/plugin/keyauth"
	"github.com/sluice-gateway/sluice/engine/plugin/prometheus"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache"
	"github.com/sluice-gateway/sluice/engine/plugin/proxyretry"
	"github.com/sluice-gateway/sluice/engine/plugin/quota"
	"github.com/sluice-gateway/sluice/engine/plugin/ratelimiting"
	"github.com/sluice-gateway/sluice/engine/plugin/requesttermination"
	"github.com/sluice-gateway/sluice/engine/plugin/requesttimeout"
	"github.com/sluice-gateway/sluice/engine/plugin/requesttransformer"
	"github.com/sluice-gateway/sluice/engine/plugin/responseratelimiting"
	"github.com/sluice-gateway/sluice/engine/plugin/responsetransformer"
	"github.com/sluice-gateway/sluice/engine/plugin/upstreamtimeout"
)

// All is every plugin, in the order of Kong's priorities, and the names that
// have no code yet. Immutable; safe for concurrent use.
var All = &pipeline.Specs{
	All: []pipeline.Spec{
		// Identity and preflight: what every later hook may refer to.
		correlationid.Spec,

		// Who calls?
		keyauth.Spec,

		// How much?
		ratelimiting.Advanced,
		ratelimiting.Spec,
		concurrencylimiting.Spec,
		quota.Spec,
		responseratelimiting.Spec,

		// What is changed?
		requesttransformer.Advanced,
		requesttransformer.Spec,
		responsetransformer.Advanced,
		responsetransformer.Spec,
		upstreamtimeout.Spec,
		requesttimeout.Spec,
		proxyretry.Spec,

		// What is known? And who is asked for what is not.
		customcacheinvalidator.Spec,
		proxycache.Advanced,
		proxycache.Spec,
		canary.Spec,

		// Who is told?
		prometheus.Spec,
		filelog.Spec,

		// Who answers instead? Nearly last, so that a terminated request has been
		// identified, limited and counted like any other.
		requesttermination.Spec,
	},
	Planned: planned,
}

// planned are the names a document may hold that have no code yet, in the
// groups of All: a document naming one is told so, not that the name is unknown.
var planned = []string{
	// Identity and preflight.
	"pre-function", "zipkin", "exit-transformer", "bot-detection", "cors", "session", "acme",
	"tls-handshake-modifier", "tls-metadata-headers",

	// Who calls?
	"oauth2-introspection", "mtls-auth", "degraphql", "jwt", "oauth2", "key-auth-enc", "ldap-auth", "ldap-auth-advanced",
	"basic-auth", "openid-connect", "hmac-auth", "saml", "header-cert-auth", "vault-auth", "jwe-decrypt", "jwt-signer",

	// May they?
	"json-threat-protection", "xml-threat-protection", "injection-protection", "waf", "csrf", "request-validator",
	"oas-validation", "websocket-size-limit", "websocket-validator", "grpc-gateway", "ip-restriction",
	"request-size-limiting", "acl", "opa",

	// How much?
	"graphql-rate-limiting-advanced", "service-protection",

	// What is changed?
	"route-by-header", "request-callout", "aggregate", "upstream-oauth", "jq", "route-transformer-advanced", "redirect",
	"aws-lambda", "azure-functions", "openwhisk", "kafka-upstream", "confluent", "standard-webhooks",

	// What is known?
	"graphql-proxy-cache-advanced", "forward-proxy",

	// Who is told?
	"opentelemetry", "http-log", "sentry", "statsd", "statsd-advanced", "datadog", "udp-log", "tcp-log", "loggly",
	"kafka-log", "syslog", "app-dynamics", "upstream-health-check",

	// Who answers instead?
	"grpc-web", "mocking", "post-function",

	// Language models.
	"ai-proxy", "ai-proxy-advanced", "ai-prompt-decorator", "ai-prompt-guard", "ai-prompt-template",
	"ai-request-transformer", "ai-response-transformer", "ai-rate-limiting-advanced", "ai-semantic-cache",
	"ai-semantic-prompt-guard", "ai-rag-injector", "ai-sanitizer", "ai-azure-content-safety", "ai-prompt-compressor",
}
