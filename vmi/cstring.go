package vmi

import (
	"bytes"

	"github.com/govmi/govmi/xen"
)

// AppendCString appends the bytes at va up to the first NUL, which is left
// out, or up to max bytes, and reports whether a NUL was found. On an error
// the bytes before the unreadable page are appended. It allocates only to
// grow dst.
func (s AddressSpace) AppendCString(dst []byte, va VirtAddr, max int) (_ []byte, terminated bool, err error) {
	for max > 0 {
		f, err := s.acquire(va)
		if err != nil {
			return dst, false, err
		}
		f = f[:min(len(f), max)]
		if i := bytes.IndexByte(f, 0); i >= 0 {
			f, terminated = f[:i], true
		}
		dst = append(dst, f...)
		n := len(f)
		s.m.mu.RUnlock()
		if terminated {
			return dst, true, nil
		}
		max -= n
		va += VirtAddr(n)
	}
	return dst, false, nil
}

// CString reads the NUL-terminated string at va, at most max bytes of it; a
// result of max bytes was cut. On an error the bytes before the unreadable
// page are returned.
func (s AddressSpace) CString(va VirtAddr, max int) (string, error) {
	// Most strings end within the page; a longer one grows.
	buf := make([]byte, 0, min(max, 256, xen.PageSize))
	buf, _, err := s.AppendCString(buf, va, max)
	return string(buf), err
}
