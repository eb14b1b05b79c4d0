package config

// kind is one list of entities of the document: how its entries are told apart, what
// may be nested in them, and where they end up.
type kind struct {
	list     string     // key of the list, also the name in messages and IDs
	singular string     // accepted instead of the list in friendly reading
	key      string     // field with the unique name entities are referred to by, or ""
	idFields []string   // fields an ID is made of, where the key alone is not it
	leaf     bool       // nothing refers to it, and idFields are unique
	random   bool       // Kong gives these random IDs: ours are made of idFields all the same
	unique   [][]string // fields, at most two together, that no two entities may share
	children []child
	make     func() any // a pointer to an entity with its defaults
	add      func(d *Document, e any)
	each     func(d *Document, f func(e any))
}

// child says that entities of a kind may be nested under a key of their parent.
type child struct {
	key   string // in the parent
	list  string // kind of the children
	field string // field of the children that refers to the parent
}

// kindOf builds a kind around its list in the Document.
func kindOf[T any](k kind, list func(*Document) *[]*T, make func() *T) *kind {
	k.make = func() any { return make() }
	k.add = func(d *Document, e any) { l := list(d); *l = append(*l, e.(*T)) }
	k.each = func(d *Document, f func(e any)) {
		for _, e := range *list(d) {
			f(e)
		}
	}
	return &k
}

func zero[T any]() *T { return new(T) }

// kinds are all lists, parents before what refers to them.
var kinds = []*kind{
	kindOf(kind{list: "vaults", singular: "vault", key: "prefix", idFields: []string{"prefix"}, unique: [][]string{{"prefix"}}},
		func(d *Document) *[]*Vault { return &d.Vaults }, zero[Vault]),
	kindOf(kind{list: "ca_certificates", singular: "ca_certificate", random: true, idFields: []string{"cert_digest"}, unique: [][]string{{"cert_digest"}}},
		func(d *Document) *[]*CACertificate { return &d.CACertificates }, zero[CACertificate]),
	kindOf(kind{list: "certificates", singular: "certificate", random: true, idFields: []string{"cert"},
		children: []child{{"snis", "snis", "certificate"}}},
		func(d *Document) *[]*Certificate { return &d.Certificates }, zero[Certificate]),
	kindOf(kind{list: "snis", singular: "sni", key: "name", unique: [][]string{{"name"}}},
		func(d *Document) *[]*SNI { return &d.SNIs }, zero[SNI]),
	kindOf(kind{list: "key_sets", singular: "key_set", key: "name", unique: [][]string{{"name"}}, children: []child{{"keys", "keys", "set"}}},
		func(d *Document) *[]*KeySet { return &d.KeySets }, zero[KeySet]),
	kindOf(kind{list: "keys", singular: "key", key: "name", random: true, idFields: []string{"name", "kid", "set"}, unique: [][]string{{"name"}, {"set", "kid"}}},
		func(d *Document) *[]*Key { return &d.Keys }, zero[Key]),
	kindOf(kind{list: "services", singular: "service", key: "name", unique: [][]string{{"name"}},
		children: []child{{"routes", "routes", "service"}, {"plugins", "plugins", "service"}}},
		func(d *Document) *[]*Service { return &d.Services }, NewService),
	kindOf(kind{list: "routes", singular: "route", key: "name", unique: [][]string{{"name"}}, children: []child{{"plugins", "plugins", "route"}}},
		func(d *Document) *[]*Route { return &d.Routes }, NewRoute),
	kindOf(kind{list: "upstreams", singular: "upstream", key: "name", unique: [][]string{{"name"}}, children: []child{{"targets", "targets", "upstream"}}},
		func(d *Document) *[]*Upstream { return &d.Upstreams }, NewUpstream),
	kindOf(kind{list: "targets", singular: "target", idFields: []string{"upstream", "target"}, unique: [][]string{{"upstream", "target"}}},
		func(d *Document) *[]*Target { return &d.Targets }, func() *Target { return &Target{Weight: 100} }),
	kindOf(kind{list: "consumers", singular: "consumer", key: "username", unique: [][]string{{"username"}, {"custom_id"}}, children: []child{
		{"plugins", "plugins", "consumer"}, {"keyauth_credentials", "keyauth_credentials", "consumer"},
		{"basicauth_credentials", "basicauth_credentials", "consumer"}, {"hmacauth_credentials", "hmacauth_credentials", "consumer"},
		{"jwt_secrets", "jwt_secrets", "consumer"}, {"oauth2_credentials", "oauth2_credentials", "consumer"},
		{"acls", "acls", "consumer"}, {"mtls_auth_credentials", "mtls_auth_credentials", "consumer"},
		{"groups", "consumer_group_consumers", "consumer"},
	}}, func(d *Document) *[]*Consumer { return &d.Consumers }, zero[Consumer]),
	kindOf(kind{list: "consumer_groups", singular: "consumer_group", key: "name", unique: [][]string{{"name"}}, children: []child{
		{"plugins", "plugins", "consumer_group"}, {"consumers", "consumer_group_consumers", "consumer_group"},
	}}, func(d *Document) *[]*ConsumerGroup { return &d.ConsumerGroups }, zero[ConsumerGroup]),
	kindOf(kind{list: "consumer_group_consumers", idFields: []string{"consumer", "consumer_group"}, unique: [][]string{{"consumer", "consumer_group"}}},
		func(d *Document) *[]*ConsumerGroupMember { return &d.ConsumerGroupMembers }, zero[ConsumerGroupMember]),
	kindOf(kind{list: "keyauth_credentials", leaf: true, singular: "keyauth_credential", random: true, idFields: []string{"key"}, unique: [][]string{{"key"}}},
		func(d *Document) *[]*KeyAuthCredential { return &d.KeyAuthCredentials }, zero[KeyAuthCredential]),
	kindOf(kind{list: "basicauth_credentials", leaf: true, singular: "basicauth_credential", idFields: []string{"username"}, unique: [][]string{{"username"}}},
		func(d *Document) *[]*BasicAuthCredential { return &d.BasicAuthCredentials }, zero[BasicAuthCredential]),
	kindOf(kind{list: "hmacauth_credentials", leaf: true, singular: "hmacauth_credential", idFields: []string{"username"}, unique: [][]string{{"username"}}},
		func(d *Document) *[]*HMACAuthCredential { return &d.HMACAuthCredentials }, zero[HMACAuthCredential]),
	kindOf(kind{list: "jwt_secrets", leaf: true, singular: "jwt_secret", random: true, idFields: []string{"key"}, unique: [][]string{{"key"}}},
		func(d *Document) *[]*JWTSecret { return &d.JWTSecrets }, NewJWTSecret),
	kindOf(kind{list: "oauth2_credentials", singular: "oauth2_credential", key: "client_id", random: true, idFields: []string{"client_id"},
		unique: [][]string{{"client_id"}}, children: []child{{"oauth2_tokens", "oauth2_tokens", "credential"}}},
		func(d *Document) *[]*OAuth2Credential { return &d.OAuth2Credentials }, NewOAuth2Credential),
	kindOf(kind{list: "oauth2_tokens", singular: "oauth2_token", random: true, idFields: []string{"access_token"},
		unique: [][]string{{"access_token"}, {"refresh_token"}}},
		func(d *Document) *[]*OAuth2Token { return &d.OAuth2Tokens }, NewOAuth2Token),
	kindOf(kind{list: "acls", leaf: true, singular: "acl", idFields: []string{"consumer", "group"}, unique: [][]string{{"consumer", "group"}}},
		func(d *Document) *[]*ACL { return &d.ACLs }, zero[ACL]),
	kindOf(kind{list: "mtls_auth_credentials", singular: "mtls_auth_credential", random: true, idFields: []string{"consumer", "subject_name", "ca_certificate"},
		unique: [][]string{{"subject_name", "ca_certificate"}}},
		func(d *Document) *[]*MTLSAuthCredential { return &d.MTLSAuthCredentials }, zero[MTLSAuthCredential]),
	kindOf(kind{list: "graphql_schemas", singular: "graphql_schema", key: "name", unique: [][]string{{"name"}}},
		func(d *Document) *[]*GraphQLSchema { return &d.GraphQLSchemas }, zero[GraphQLSchema]),
	kindOf(kind{list: "plugins", singular: "plugin", idFields: []string{"name", "route", "service", "consumer", "consumer_group"}},
		func(d *Document) *[]*Plugin { return &d.Plugins }, NewPlugin),
}

var (
	kindByList     = kindTable(func(k *kind) string { return k.list })
	kindBySingular = kindTable(func(k *kind) string { return k.singular })
)

func kindTable(name func(*kind) string) map[string]*kind {
	t := make(map[string]*kind, len(kinds))
	for _, k := range kinds {
		if n := name(k); n != "" {
			t[n] = k
		}
	}
	return t
}

// child is the nesting rule for a key of an entity of this kind.
func (k *kind) child(key string) (child, bool) {
	for _, c := range k.children {
		if c.key == key {
			return c, true
		}
	}
	return child{}, false
}
