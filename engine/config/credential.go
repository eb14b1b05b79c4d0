package config

// KeyAuthCredential is an API key of a consumer.
type KeyAuthCredential struct {
	ID       string `json:"id"`
	Consumer string `json:"consumer" ref:"consumers" required:"true"` // ID
	Key      string `json:"key" secret:"true" doc:"Unique; generated when absent."`
	TTL      int    `json:"ttl" min:"0" max:"100000000" doc:"Seconds the key is valid after created_at, 0 for ever."` // seconds
	Meta
}

// BasicAuthCredential is a user name and password of a consumer.
type BasicAuthCredential struct {
	ID       string `json:"id"`
	Consumer string `json:"consumer" ref:"consumers" required:"true"` // ID
	Username string `json:"username" required:"true"`
	// Password is stored as HashPassword gives it, never in clear.
	Password string `json:"password" required:"true" secret:"true"`
	Meta
}

// HMACAuthCredential is a user name and shared secret of a consumer.
type HMACAuthCredential struct {
	ID       string `json:"id"`
	Consumer string `json:"consumer" ref:"consumers" required:"true"` // ID
	Username string `json:"username" required:"true"`
	Secret   string `json:"secret" secret:"true" doc:"Generated when absent."`
	Meta
}

// JWTSecret is what verifies the tokens of a consumer.
type JWTSecret struct {
	ID           string `json:"id"`
	Consumer     string `json:"consumer" ref:"consumers" required:"true"` // ID
	Key          string `json:"key" doc:"Unique; compared with the key claim. Generated when absent."`
	Secret       string `json:"secret" secret:"true" doc:"For HS algorithms. Generated when absent."`
	RSAPublicKey string `json:"rsa_public_key" doc:"PEM; for RS, PS, ES and EdDSA."`
	Algorithm    string `json:"algorithm" enum:"HS256,HS384,HS512,RS256,RS384,RS512,ES256,ES384,ES512,PS256,PS384,PS512,EdDSA"`
	Meta
}

// NewJWTSecret returns a JWTSecret with Kong's defaults.
func NewJWTSecret() *JWTSecret { return &JWTSecret{Algorithm: "HS256"} }

// OAuth2Credential is an OAuth 2.0 client application of a consumer.
type OAuth2Credential struct {
	ID           string   `json:"id"`
	Consumer     string   `json:"consumer" ref:"consumers" required:"true"` // ID
	Name         string   `json:"name" required:"true"`
	ClientID     string   `json:"client_id" doc:"Unique; generated when absent."`
	ClientSecret string   `json:"client_secret" secret:"true" doc:"Generated when absent."` // see VerifyClientSecret
	HashSecret   bool     `json:"hash_secret" doc:"Keep only a hash of client_secret."`
	RedirectURIs []string `json:"redirect_uris" doc:"Absolute URIs without fragment."`
	ClientType   string   `json:"client_type" enum:"confidential,public"`
	Meta
}

// NewOAuth2Credential returns an OAuth2Credential with Kong's defaults.
func NewOAuth2Credential() *OAuth2Credential {
	return &OAuth2Credential{ClientType: "confidential"}
}

// OAuth2Token is an access token that exists from the start.
type OAuth2Token struct {
	ID                  string `json:"id"`
	Credential          string `json:"credential" ref:"oauth2_credentials" required:"true"` // ID
	Service             string `json:"service" ref:"services"`                              // ID
	AccessToken         string `json:"access_token" secret:"true" doc:"Unique; generated when absent."`
	RefreshToken        string `json:"refresh_token" secret:"true"`
	TokenType           string `json:"token_type" enum:"bearer"`
	ExpiresIn           int    `json:"expires_in" required:"true" min:"0" max:"2147483647" doc:"Seconds after created_at, 0 for never."` // seconds
	Scope               string `json:"scope"`
	AuthenticatedUserID string `json:"authenticated_userid"`
	TTL                 int    `json:"ttl" min:"0" max:"100000000"` // seconds
	Meta
}

// NewOAuth2Token returns an OAuth2Token with Kong's defaults.
func NewOAuth2Token() *OAuth2Token { return &OAuth2Token{TokenType: "bearer"} }

// ACL puts a consumer into a group of the acl plugin.
type ACL struct {
	ID       string `json:"id"`
	Consumer string `json:"consumer" ref:"consumers" required:"true"` // ID
	Group    string `json:"group" required:"true"`
	Meta
}

// MTLSAuthCredential maps a client certificate to a consumer.
type MTLSAuthCredential struct {
	ID            string `json:"id"`
	Consumer      string `json:"consumer" ref:"consumers" required:"true"` // ID
	SubjectName   string `json:"subject_name" required:"true" doc:"SAN or CN; with an equals sign a distinguished name (RFC 4514)."`
	CACertificate string `json:"ca_certificate" doc:"ID or PEM of the CA that must have signed; null for any."` // ID
	Meta
}

// Certificate is a TLS certificate with its key; both may exist in a second key type.
type Certificate struct {
	ID      string `json:"id"`
	Cert    string `json:"cert" required:"true" doc:"PEM chain, leaf first."`
	Key     string `json:"key" required:"true" secret:"true" doc:"PEM private key."`
	CertAlt string `json:"cert_alt" doc:"PEM chain of another key type."`
	KeyAlt  string `json:"key_alt" secret:"true"`
	Meta
}

// SNI is a server name a Certificate is presented for.
type SNI struct {
	ID          string `json:"id"`
	Name        string `json:"name" required:"true" doc:"Host name; an asterisk as first or last label, or alone."`
	Certificate string `json:"certificate" ref:"certificates" required:"true"` // ID
	Meta
}

// CACertificate is a trusted certificate authority.
type CACertificate struct {
	ID         string `json:"id"`
	Cert       string `json:"cert" required:"true" doc:"Exactly one PEM certificate."`
	CertDigest string `json:"cert_digest" doc:"SHA-256 of the certificate, 64 hex digits; computed."`
	Meta
}

// Vault is a named source of secrets for {vault://prefix/...} references.
type Vault struct {
	ID          string `json:"id"`
	Name        string `json:"name" required:"true" doc:"Kind of vault: env."`
	Prefix      string `json:"prefix" required:"true" doc:"Unique name used in references."`
	Description string `json:"description"`
	Config      *Node  `json:"config"`
	Meta
}

// KeySet is a named set of keys.
type KeySet struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Meta
}

// Key is a public or private key, as JWK or PEM.
type Key struct {
	ID   string  `json:"id"`
	Set  string  `json:"set" ref:"key_sets"` // ID
	Name string  `json:"name"`
	KID  string  `json:"kid" required:"true" doc:"Key ID, unique in its set."`
	JWK  string  `json:"jwk" secret:"true" doc:"JSON Web Key as text (RFC 7517)."`
	PEM  *KeyPEM `json:"pem"`
	Meta
}

// KeyPEM is a key pair in PEM.
type KeyPEM struct {
	PrivateKey string `json:"private_key" secret:"true"`
	PublicKey  string `json:"public_key"`
}
