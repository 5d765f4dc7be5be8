package meter

import (
	"encoding/binary"
	"hash/crc32"
)

// A record on disk, little-endian: u32 CRC-32C over all that follows, u16 payload length, u8 kind, u8 version, u64 epoch, u64 entry, payload. Epoch and entry name what the record belongs to.
const (
	headSize   = 4 + 2 + 1 + 1 + 8 + 8
	version    = 1
	maxPayload = 1<<16 - 1
)

type kind uint8

const (
	kindOpen kind = iota + 1
	kindMark
	kindClose
)

// ref names an entry over all starts of a node.
type ref struct{ epoch, entry uint64 }

type record struct {
	kind    kind
	ref     ref
	payload []byte // points into the read buffer
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendRecord(b []byte, k kind, r ref, payload []byte) []byte {
	from := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(payload))) //nolint:gosec // checked by the callers
	b = append(b, byte(k), version)
	b = binary.LittleEndian.AppendUint64(b, r.epoch)
	b = binary.LittleEndian.AppendUint64(b, r.entry)
	b = append(b, payload...)
	binary.LittleEndian.PutUint32(b[from:], crc32.Checksum(b[from+4:], castagnoli))
	return b
}

// readRecord reads the record at the front of b and returns its length; 0 if there is none that is whole and sound.
func readRecord(b []byte) (record, int) {
	if len(b) < headSize {
		return record{}, 0
	}
	n := headSize + int(binary.LittleEndian.Uint16(b[4:]))
	if len(b) < n || b[7] != version || b[6] == 0 || kind(b[6]) > kindClose || binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:n], castagnoli) {
		return record{}, 0
	}
	return record{kind(b[6]), ref{binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])}, b[headSize:n]}, n
}

// nextRecord is readRecord that steps over damaged bytes, which a torn write or a bad disk left. skipped counts them. n == 0: no whole record follows.
func nextRecord(b []byte) (r record, skipped, n int) {
	for skipped = 0; len(b)-skipped >= headSize; skipped++ {
		if r, n = readRecord(b[skipped:]); n > 0 {
			return r, skipped, n
		}
	}
	return record{}, 0, 0
}
