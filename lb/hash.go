package lb

import (
	"hash/crc32"

	"github.com/cespare/xxhash/v2"
)

// Hash returns the Request.Hash of key for a Ring. A Ring reads its upper half.
func Hash(key []byte) uint64 { return xxhash.Sum64(key) }

// NginxHash returns the Request.Hash of key for a Ring with RingOptions.Nginx:
// nginx's ngx_crc32_long in the upper half, where every Ring looks.
func NginxHash(key []byte) uint64 { return uint64(crc32.ChecksumIEEE(key)) << 32 }
