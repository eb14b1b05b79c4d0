package plugin_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// priority is Kong's table: hooks of a higher one run first.
var priority = map[string]int{
	"pre-function": 1000000, "correlation-id": 100001, "zipkin": 100000, "exit-transformer": 9999,
	"bot-detection": 2500, "cors": 2000, "session": 1900, "acme": 1705,
	"oauth2-introspection": 1700, "mtls-auth": 1600, "degraphql": 1500, "jwt": 1450, "oauth2": 1400,
	"key-auth": 1250, "key-auth-enc": 1250, "ldap-auth": 1200, "basic-auth": 1100, "openid-connect": 1050,
	"hmac-auth": 1030, "saml": 1010, "header-cert-auth": 1009, "json-threat-protection": 1009, "injection-protection": 1007,
	"waf": 1007, "request-validator": 999, "grpc-gateway": 998, "ip-restriction": 990, "request-size-limiting": 951,
	"acl": 950, "opa": 920, "rate-limiting": 910, "rate-limiting-advanced": 910, "concurrency-limiting": 910, "quota": 909,
	"graphql-rate-limiting-advanced": 902, "service-protection": 901, "response-ratelimiting": 900,
	"route-by-header": 850, "request-callout": 812, "request-transformer-advanced": 802, "request-transformer": 801,
	"response-transformer": 800, "response-transformer-advanced": 800, "route-transformer-advanced": 780,
	"redirect": 779, "aws-lambda": 750, "upstream-timeout": 400, "request-timeout": 400, "proxy-retry": 400,
	"custom-cache-invalidator": 101, "proxy-cache": 100, "proxy-cache-advanced": 100, "graphql-proxy-cache-advanced": 99,
	"forward-proxy": 50, "canary": 20, "opentelemetry": 14, "prometheus": 13, "http-log": 12, "sentry": 12, "statsd": 11,
	"datadog": 10, "file-log": 9, "udp-log": 8, "tcp-log": 7, "loggly": 6, "kafka-log": 5, "syslog": 4, "grpc-web": 3,
	"request-termination": 2, "mocking": -1, "post-function": -1000,
}

func TestOrderFollowsPriorities(t *testing.T) {
	last := 1 << 30
	for _, s := range plugin.All.All {
		p, ok := priority[s.Name]
		switch {
		case !ok:
			t.Errorf("%s is not in the table of priorities", s.Name)
		case p > last:
			t.Errorf("%s (%d) stands below a plugin of priority %d", s.Name, p, last)
		}
		last = p
	}
}

func TestEveryKnownNameOnce(t *testing.T) {
	names := slices.Clone(plugin.All.Planned)
	for _, s := range plugin.All.All {
		names = append(names, s.Name)
	}
	for name := range priority {
		if !slices.Contains(names, name) {
			t.Errorf("%s is neither built nor planned", name)
		}
	}
	slices.Sort(names)
	for i := 1; i < len(names); i++ {
		if names[i] == names[i-1] {
			t.Errorf("%s is listed twice", names[i])
		}
	}
	if got := plugin.All.Names(); len(got) != len(names) {
		t.Errorf("Names has %d names, want %d", len(got), len(names))
	}
}

// TestFolders holds the rule of one folder, one line: a folder whose plugin is
// not in All would be dead code.
func TestFolders(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]bool{}
	for _, s := range plugin.All.All {
		folders[strings.TrimSuffix(strings.ReplaceAll(s.Name, "-", ""), "advanced")] = true
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "testdata" && !folders[e.Name()] {
			t.Errorf("no line of All is made by folder %s", e.Name())
		}
	}
}

func TestExamplesLoad(t *testing.T) {
	examples, err := filepath.Glob("*/example.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range examples {
		d, err := config.ReadFiles([]string{file}, nil, config.Options{Strict: true, Catalog: plugin.All})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if len(d.Plugins) == 0 {
			t.Errorf("%s configures no plugin", file)
		}
	}
}
