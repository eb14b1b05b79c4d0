package config

import (
	"strings"
	"testing"
)

func envOf(pairs map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := pairs[name]
		return v, ok
	}
}

// TestVariables checks what each kind of reference becomes and what is left alone.
func TestVariables(t *testing.T) {
	env := envOf(map[string]string{
		"HOST": "h", "PORT": "8080", "EMPTY": "", "NASTY": "x\nroutes: [1]", "DECK_N": "5", "DECK_B": "1", "DECK_F": "0.5",
		"DB_PASSWORD": "p", "JSON": `{"user": "u", "n": 5}`, "ROTATED_PREVIOUS": "old", "APP_TOKEN": "t", "FLAG": "on",
	})
	res := &resolver{env: env, vaults: map[string]vault{"env": {kind: "env"}, "app": {kind: "env", prefix: "app_"}, "cloud": {kind: "aws"}}, used: func(string) {}}
	f := func(value, want string) {
		t.Helper()
		n := parseOne(t, "k: "+value, false)
		got := ""
		if fs := res.resolve(n); fs != nil {
			got = messages(fs)
		} else {
			got = string(n.Get("k").AppendJSON(nil))
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", value, got, want)
		}
	}
	f("http://${HOST}:${PORT}/", `"http://h:8080/"`)
	f("${PORT}", `"8080"`)
	f(`"${PORT}"`, `"8080"`)
	f("${NONE:-d}", `"d"`)
	f("${EMPTY:-d}", `"d"`)
	f("${EMPTY}", `""`)
	f("${NASTY}", `"x\nroutes: [1]"`)
	f("$HOST $(uuid) $(headers.x) $$ ${a.b} ${1} $", `"$HOST $(uuid) $(headers.x) $$ ${a.b} ${1} $"`)
	f(`${{ env "DECK_N" }}`, `"5"`)
	f(`${{ env "DECK_N" | toInt }}`, `5`)
	f(`"${{ env 'DECK_B' | toBool }}"`, `true`)
	f(`${{env "DECK_F"|toFloat}}`, `0.5`)
	f(`a-${{ env "DECK_N" | toInt }}`, `"a-5"`)
	f(`${{ env "DECK_N" | indent 4 }}`, `"5"`)
	f(`"{vault://env/db-password}"`, `"p"`)
	f(`"{vault://env/json/user}"`, `"u"`)
	f(`"{vault://env/json/n}"`, `"5"`)
	f(`"{vault://env/rotated#2}"`, `"old"`)
	f(`"{vault://app/token}"`, `"t"`)
	f(`"{vault://env/token?prefix=app-}"`, `"t"`)
	f("${NONE}", `1:4: k: environment variable NONE is not set`)
	f(`${{ env "DECK_NONE" }}`, `1:4: k: environment variable DECK_NONE is not set`)
	f(`${{ env "DECK_F" | toInt }}`, `1:4: k: environment variable DECK_F does not fit toInt`)
	f(`${{ env "DECK_F" | upper }}`, `1:4: k: unknown pipe "upper"; expected one of: toInt, toFloat, toBool, indent`)
	f(`${{ foo }}`, `1:4: k: unknown template ${{ foo }}; expected ${{ env "DECK_NAME" }}`)
	f(`"{vault://env/none}"`, `1:4: k: environment variable NONE is not set`)
	f(`"{vault://env}"`, `1:4: k: malformed vault reference {vault://env}`)
	f(`"{vault://other/x}"`, `1:4: k: no vault has the name or prefix "other"`)
	f(`"{vault://cloud/x}"`, `1:4: k: vault "cloud" is of kind "aws"; only env is available`)
	f(`"{vault://env/host/x}"`, `1:4: k: environment variable HOST is not a JSON object`)
	f(`"{vault://env/json/x}"`, `1:4: k: environment variable JSON has no key "x"`)
}

// TestVariablesInDocument checks types, vault entities and redaction in a whole document.
func TestVariablesInDocument(t *testing.T) {
	env := envOf(map[string]string{"PORT": "8080", "ON": "on", "DECK_X": "x", "MY_KEY": "0123"})
	text := `
_format_version: "3.0"
vaults: [{name: env, prefix: mine, config: {prefix: MY_}}]
services: [{name: s, host: h, port: "${PORT}", enabled: "${ON}", read_timeout: '${T:-500}', tags: ["${PORT}"]}]
consumers: [{username: "${{ env \"DECK_X\" }}", keyauth_credentials: [{key: "{vault://mine/key}"}]}]
plugins: [{name: p, config: {harmless: "{vault://mine/key}", password: q, n: 5}}]
`
	d, fs := readText(t, text, Options{Env: env})
	if fs != nil {
		t.Fatal(fs)
	}
	if s := d.Services[0]; s.Port != 8080 || !s.Enabled || s.ReadTimeout != 500 || s.Tags[0] != "8080" {
		t.Errorf("service %+v", s)
	}
	if d.KeyAuthCredentials[0].Key != "0123" {
		t.Errorf("key %q", d.KeyAuthCredentials[0].Key)
	}
	out, err := d.Dump(DumpOptions{Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "0123") || strings.Contains(string(out), `"q"`) || !strings.Contains(string(out), `"n":5`) {
		t.Errorf("secrets show in %s", out)
	}
	other, fs := readText(t, text, Options{Env: envOf(map[string]string{"PORT": "8080", "ON": "on", "DECK_X": "x", "MY_KEY": "4"})})
	if fs != nil || other.Hash == d.Hash {
		t.Error("another secret gives the same hash")
	}
}

// TestTransform checks how passwords and client secrets are kept.
func TestTransform(t *testing.T) {
	text := `
_format_version: "3.0"
consumers:
- id: abc
  username: u
  basicauth_credentials: [{username: u, password: secret}]
  oauth2_credentials: [{name: n, client_id: c, client_secret: xyz, hash_secret: true}]
`
	d, fs := readText(t, text, Options{})
	if fs != nil {
		t.Fatal(fs)
	}
	// Reference: Python's hashlib.sha1(b"secret" + b"abc").
	if got := d.BasicAuthCredentials[0].Password; got != "338127540dccbe48589a0ff30875548fc24c74c8" {
		t.Errorf("password kept as %s", got)
	}
	stored := d.OAuth2Credentials[0].ClientSecret
	if !strings.HasPrefix(stored, "$pbkdf2-sha512$i=10000,l=32$") || !VerifyClientSecret(stored, "xyz") || VerifyClientSecret(stored, "xyy") {
		t.Errorf("client secret kept as %s", stored)
	}
	d, fs = readText(t, text+"_transform: false", Options{})
	if fs != nil || d.BasicAuthCredentials[0].Password != "secret" || d.OAuth2Credentials[0].ClientSecret != "xyz" {
		t.Errorf("_transform: false still transforms: %v", fs)
	}
	// Reference: Python's hashlib.pbkdf2_hmac("sha512", b"xyz", b"0123456789abcdef", 10000, 32).
	const reference = "$pbkdf2-sha512$i=10000,l=32$MDEyMzQ1Njc4OWFiY2RlZg$u2pVwH9d/36h6b5YI/X3ilV8Gg7mv3zEJ4Lso03WR+E"
	if !VerifyClientSecret(reference, "xyz") {
		t.Error("a hash made elsewhere is refused")
	}
	for _, broken := range []string{"$pbkdf2-sha512$i=x,l=32$a$b", "$pbkdf2-sha512$i=1,l=0$$", "$pbkdf2-sha512$"} {
		if VerifyClientSecret(broken, "xyz") {
			t.Errorf("%s accepts a secret", broken)
		}
	}
	if !VerifyClientSecret("plain", "plain") || VerifyClientSecret("plain", "other") {
		t.Error("plain secrets compare wrongly")
	}
}

// TestEntityID compares with UUIDs made by Python's uuid.uuid5.
func TestEntityID(t *testing.T) {
	f := func(list, key, want string) {
		t.Helper()
		if got := EntityID(list, key); got != want {
			t.Errorf("%s %s: got %s, want %s", list, key, got, want)
		}
	}
	f("services", "users", "e37de8aa-85e3-5439-b356-1084f7624ae5")
	f("consumers", "bob", "def4f7d3-9863-5ad2-8fa9-c949bf26f55e")
	f("plugins", "plugins:*:cors:::", "48ee727e-8b90-5faa-bda1-a3c6bc3c9daa")
	f("targets", "targets:*:u:a:8000", "74d4a02e-0e64-5f7b-824b-2b8196e4d884")
	if !isUUID("48ee727e-8b90-5faa-bda1-a3c6bc3c9daa") || isUUID("48ee727e-8b90-5faa-bda1-a3c6bc3c9da") || isUUID(strings.Repeat("x", 36)) {
		t.Error("isUUID")
	}
}

// TestGenerated checks credentials written without a secret.
func TestGenerated(t *testing.T) {
	d, fs := readText(t, "_format_version: \"3.0\"\nconsumers: [{username: u, keyauth_credentials: [{}, {}]}]", Options{})
	if fs != nil {
		t.Fatal(fs)
	}
	a, b := d.KeyAuthCredentials[0], d.KeyAuthCredentials[1]
	if len(a.Key) != 32 || len(b.Key) != 32 || a.Key == b.Key || a.ID == b.ID || len(d.Warnings) != 2 {
		t.Errorf("%+v %+v %v", a, b, d.Warnings)
	}
}
