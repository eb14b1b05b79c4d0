package redis

import "strings"

const (
	slots = 1 << 14
	// parts is into how many ranges of slots a cluster is divided: nodes own few
	// long ranges, so that those of one node fail together.
	parts = 64
)

// slot returns the slot of a cluster that a key lies in: CRC16 of its hash tag, the
// text between the first { and the next } if there is any, else of all of it.
func slot(key string) int {
	if i := strings.IndexByte(key, '{'); i >= 0 {
		if j := strings.IndexByte(key[i+1:], '}'); j > 0 {
			key = key[i+1 : i+1+j]
		}
	}
	crc := uint16(0)
	for i := range len(key) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^key[i]]
	}
	return int(crc) % slots
}

// crcTable is of CRC-16/XMODEM.
var crcTable = func() (t [256]uint16) {
	for i := range t {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		t[i] = crc
	}
	return t
}()

// part returns which part of a cluster holds the keys, or -1 if not one slot does: they
// lie in several, or there are none.
func part(keys []string) int {
	if len(keys) == 0 {
		return -1
	}
	n := slot(keys[0])
	for _, k := range keys[1:] {
		if slot(k) != n {
			return -1
		}
	}
	return n / (slots / parts)
}
