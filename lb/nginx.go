package lb

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
)

const (
	nginxPoints = 160
	// nginxPointsMax bounds a ring to 48 MiB. Heavier weights are scaled down and
	// the ring is no longer nginx's, which knows no limit: 263 targets of weight 100
	// are the first to be.
	nginxPointsMax = 1 << 22
)

// nginxPlaces returns the places that nginx gives the servers of "hash … consistent"
// (ngx_http_upstream_init_chash in ngx_http_upstream_hash_module.c), which are those
// of Cache::Memcached::Fast: crc32(host, 0, port, the previous point). The name is
// what stands after "server" in nginx's configuration.
//
// Where two servers have a point at the same position nginx keeps that of the one
// configured first, a Ring the first by name: one point in 2^32/points.
func nginxPlaces(targets []Target) []uint64 {
	shares := make([]int, len(targets))
	total := 0
	for i := range targets {
		shares[i] = targets[i].Weight
		total += shares[i]
	}
	if total > nginxPointsMax/nginxPoints {
		shares, total = reduce(targets, nginxPointsMax/nginxPoints)
	}
	places := make([]uint64, 0, total*nginxPoints)
	for rank := range targets {
		host, port := nginxSplit(targets[rank].Name)
		base := crc32.ChecksumIEEE([]byte(host + "\x00" + port))
		var previous [4]byte
		for range shares[rank] * nginxPoints {
			position := crc32.Update(base, crc32.IEEETable, previous[:])
			places = append(places, uint64(position)<<32|uint64(rank))
			binary.LittleEndian.PutUint32(previous[:], position)
		}
	}
	return places
}

// nginxSplit splits a name at its last colon if only digits follow.
func nginxSplit(name string) (host, port string) {
	colon := strings.LastIndexByte(name, ':')
	if colon < 0 || strings.Trim(name[colon+1:], "0123456789") != "" {
		return name, ""
	}
	return name[:colon], name[colon+1:]
}
