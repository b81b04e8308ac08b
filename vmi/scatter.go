package vmi

import (
	"errors"
	"slices"

	"github.com/govmi/govmi/xen"
)

// Piece is one of many places that [AddressSpace.ReadPieces] reads.
type Piece struct {
	Addr VirtAddr
	Data []byte // is filled
	// N is the number of bytes read, Err why it is not all of Data.
	N   int
	Err error
}

// ReadPieces reads pieces that lie scattered, such as one field of each element of
// a list: what the cache lacks of all of them is mapped by one call for each 2 MiB,
// not by one for each piece. A piece that cannot be read does not keep the others
// from it, and has its error; that of ReadPieces is of all of them, nil if there is
// none.
func (s AddressSpace) ReadPieces(pieces []Piece) error {
	var lacking []xen.GFN
	for i := range pieces {
		p := &pieces[i]
		for off := VirtAddr(0); off < VirtAddr(len(p.Data)); {
			pa, err := s.Translate(p.Addr + off)
			if err != nil {
				break // shows when it is read
			}
			if pa.GFN() <= maxGFN {
				lacking = append(lacking, pa.GFN())
			}
			off += xen.PageSize - VirtAddr(pa.Offset())
		}
	}
	slices.Sort(lacking)
	lacking = slices.Compact(lacking)
	// More than the cache holds would be unmapped again before it is read.
	for some := range slices.Chunk(lacking[:min(len(lacking), s.m.cache.max/2)], s.m.ahead) {
		_ = s.m.mapAll(some, noGFN)
	}
	var errs []error
	for i := range pieces {
		p := &pieces[i]
		p.N, p.Err = s.Read(p.Addr, p.Data)
		errs = append(errs, p.Err)
	}
	return errors.Join(errs...)
}
