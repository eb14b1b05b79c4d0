package pipeline

import "github.com/valyala/fasthttp"

// The headers that tell the service who calls (Kong: the same names).
const (
	headerConsumerID           = "X-Consumer-Id"
	headerConsumerCustomID     = "X-Consumer-Custom-Id"
	headerConsumerUsername     = "X-Consumer-Username"
	headerCredentialIdentifier = "X-Credential-Identifier"
	headerAnonymousConsumer    = "X-Anonymous-Consumer"
)

var identityHeaders = [...]string{
	headerConsumerID, headerConsumerCustomID, headerConsumerUsername, headerCredentialIdentifier, headerAnonymousConsumer,
}

// Authenticate records who calls and tells the service in headers, replacing
// whatever the client sent under their names. A nil credential makes c the
// anonymous consumer; a later authentication replaces an earlier one, as in Kong.
// For authentication plugins.
func (x *Exchange) Authenticate(c *Consumer, credential *Credential) {
	x.Consumer, x.Credential = c, credential
	h := &x.Ctx.Request.Header
	var id, customID, username, identifier, anonymous string
	if c != nil {
		id, customID, username = c.ID, c.CustomID, c.Username
	}
	if credential != nil {
		identifier = credential.Identifier
	} else {
		anonymous = "true"
	}
	if claimsIdentity(h) {
		// Slow path: remove every copy, since setting a header replaces the first.
		for _, name := range identityHeaders {
			h.DelBytes(stringBytes(name))
		}
	}
	setHeader(h, headerConsumerID, id)
	setHeader(h, headerConsumerCustomID, customID)
	setHeader(h, headerConsumerUsername, username)
	setHeader(h, headerCredentialIdentifier, identifier)
	setHeader(h, headerAnonymousConsumer, anonymous)
}

// claimsIdentity reports whether any of the identity headers is there: one pass
// in place of one for each name.
func claimsIdentity(h *fasthttp.RequestHeader) bool {
	for name := range h.All() {
		if len(name) < len(headerConsumerID) || name[0] != 'X' {
			continue
		}
		switch string(name) {
		case headerConsumerID, headerConsumerCustomID, headerConsumerUsername, headerCredentialIdentifier, headerAnonymousConsumer:
			return true
		}
	}
	return false
}

func setHeader(h *fasthttp.RequestHeader, name, value string) {
	if value != "" {
		h.SetCanonical(stringBytes(name), stringBytes(value))
	}
}

// Hold copies b to where it stays unchanged until the exchange ends: for a fact
// taken from a header that later hooks may rewrite.
func (x *Exchange) Hold(b []byte) []byte {
	start := len(x.scratch)
	x.scratch = append(x.scratch, b...)
	return x.scratch[start:len(x.scratch):len(x.scratch)]
}
