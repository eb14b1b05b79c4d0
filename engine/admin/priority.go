package admin

// priorities are the numbers tools sort plugins by. Kong: PRIORITY of each of its
// plugins. They say nothing about the order here, which is that of
// Options.Plugins; the two agree where both know a plugin.
var priorities = map[string]int{
	"pre-function": 1000000, "correlation-id": 100001, "zipkin": 100000, "exit-transformer": 9999,
	"bot-detection": 2500, "cors": 2000, "session": 1900, "acme": 1705,
	"oauth2-introspection": 1700, "mtls-auth": 1600, "degraphql": 1500, "jwt": 1450, "oauth2": 1400,
	"key-auth": 1250, "key-auth-enc": 1250, "ldap-auth": 1200, "basic-auth": 1100, "openid-connect": 1050,
	"hmac-auth": 1030, "saml": 1010, "header-cert-auth": 1009, "json-threat-protection": 1009, "injection-protection": 1007,
	"waf": 1007, "request-validator": 999, "grpc-gateway": 998, "ip-restriction": 990, "request-size-limiting": 951,
	"acl": 950, "opa": 920, "rate-limiting": 910, "rate-limiting-advanced": 910, "quota": 909,
	"graphql-rate-limiting-advanced": 902, "service-protection": 901, "response-ratelimiting": 900,
	"route-by-header": 850, "request-callout": 812, "request-transformer-advanced": 802, "request-transformer": 801,
	"response-transformer": 800, "response-transformer-advanced": 800, "route-transformer-advanced": 780,
	"redirect": 779, "aws-lambda": 750, "upstream-timeout": 400, "request-timeout": 400, "proxy-retry": 400,
	"custom-cache-invalidator": 101, "proxy-cache": 100, "proxy-cache-advanced": 100, "graphql-proxy-cache-advanced": 99,
	"forward-proxy": 50, "canary": 20, "opentelemetry": 14, "prometheus": 13, "http-log": 12, "sentry": 12, "statsd": 11,
	"datadog": 10, "file-log": 9, "udp-log": 8, "tcp-log": 7, "loggly": 6, "kafka-log": 5, "syslog": 4, "grpc-web": 3,
	"request-termination": 2, "mocking": -1, "post-function": -1000,
}

// priorityOf returns the number of each of names, which are in the order their
// hooks run. One that Kong does not have gets that of the one before it.
func priorityOf(names []string) map[string]int {
	numbers := make(map[string]int, len(names))
	last := priorities["pre-function"] // the highest
	for _, name := range names {
		if n, ok := priorities[name]; ok {
			last = n
		}
		numbers[name] = last
	}
	return numbers
}
