package config

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1" // UUIDv5 and Kong's password format are defined by it
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
)

// rootNamespace is where the IDs of all entities without one derive from (Kong).
var rootNamespace = [16]byte{0xfd, 0x02, 0x80, 0x1f, 0x09, 0x57, 0x4a, 0x15, 0xa5, 0x5a, 0xc8, 0xd9, 0x60, 0x6f, 0x30, 0xb5}

// namespaces are those of the kinds: UUIDv5 of the list's name in rootNamespace.
var namespaces = func() map[string][16]byte {
	t := make(map[string][16]byte, len(kinds))
	for _, k := range kinds {
		t[k.list] = uuid5(rootNamespace, k.list)
	}
	return t
}()

// EntityID is the ID Kong gives an entity of a list, such as "services", that has none of
// its own: the UUIDv5 of its name, or of its joined key fields, in the namespace of the
// list. It is the same in every process.
func EntityID(list, key string) string {
	ns, ok := namespaces[list]
	if !ok {
		ns = uuid5(rootNamespace, list)
	}
	return formatUUID(uuid5(ns, key))
}

// uuid5 is RFC 9562, section 5.5.
func uuid5(ns [16]byte, name string) [16]byte {
	buf := make([]byte, 0, 128)
	buf = append(buf, ns[:]...)
	buf = append(buf, name...)
	sum := sha1.Sum(buf) // see the import
	var id [16]byte
	copy(id[:], sum[:])
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return id
}

func formatUUID(id [16]byte) string {
	var out [36]byte
	hex.Encode(out[0:8], id[0:4])
	hex.Encode(out[9:13], id[4:6])
	hex.Encode(out[14:18], id[6:8])
	hex.Encode(out[19:23], id[8:10])
	hex.Encode(out[24:36], id[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// isUUID accepts the usual text form in either case.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
				return false
			}
		}
	}
	return true
}

// randomToken is a fresh secret of 32 letters and digits, for credentials written without
// one (Kong).
func randomToken() string {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	out := make([]byte, 0, 32)
	var buf [64]byte
	for len(out) < cap(out) {
		_, _ = rand.Read(buf[:]) // never fails (crypto/rand)
		for _, b := range buf {
			if b < 248 && len(out) < cap(out) { // 248 is 4 times 62: no letter is likelier
				out = append(out, alphabet[b%62])
			}
		}
	}
	return string(out)
}

// HashPassword is how the password of a BasicAuthCredential is kept: the hex SHA-1 of
// password and consumer ID (Kong's format, so exports stay usable; fast to break for
// who has the file).
func HashPassword(password, consumerID string) string {
	sum := sha1.Sum([]byte(password + consumerID)) // see above
	return hex.EncodeToString(sum[:])
}

const (
	clientSecretPrefix = "$pbkdf2-sha512$i=10000,l=32$" // a format, not a secret
	clientSecretRounds = 10000
	clientSecretBytes  = 32
)

// hashClientSecret keeps an OAuth2Credential's secret as PBKDF2 in PHC format. The salt
// comes from the credential's ID: unlike a random one it leaves the document the same
// from one reading to the next.
func hashClientSecret(secret, id string) (string, error) {
	salt := sha256.Sum256([]byte(id))
	key, err := pbkdf2.Key(sha512.New, secret, salt[:16], clientSecretRounds, clientSecretBytes)
	if err != nil {
		return "", err
	}
	b64 := base64.RawStdEncoding
	return clientSecretPrefix + b64.EncodeToString(salt[:16]) + "$" + b64.EncodeToString(key), nil
}

// VerifyClientSecret reports whether given is the secret of an OAuth2Credential whose
// ClientSecret is stored, hashed or not. A hashed one takes milliseconds of CPU time.
func VerifyClientSecret(stored, given string) bool {
	rest, hashed := strings.CutPrefix(stored, "$pbkdf2-sha512$i=")
	if !hashed {
		return subtle.ConstantTimeCompare([]byte(stored), []byte(given)) == 1
	}
	parameters, tail, _ := strings.Cut(rest, "$")
	rounds, length, _ := strings.Cut(parameters, ",l=")
	salt64, key64, _ := strings.Cut(tail, "$")
	iterations, err1 := strconv.Atoi(rounds)
	bytes, err2 := strconv.Atoi(length)
	salt, err3 := base64.RawStdEncoding.DecodeString(salt64)
	want, err4 := base64.RawStdEncoding.DecodeString(key64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || iterations < 1 || iterations > 1_000_000 || bytes != len(want) || bytes == 0 {
		return false
	}
	key, err := pbkdf2.Key(sha512.New, given, salt, iterations, bytes)
	return err == nil && subtle.ConstantTimeCompare(key, want) == 1
}
