package linux

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/govmi/govmi/vmi"
)

// members is a structure of [Field] members, each tagged with the path that it
// is resolved by: btf:"task_struct.__state|task_struct.state" tries one name
// after another, for kernels that differ, and a "?" at the end allows that there
// is none; the field's Size is 0 then. It is resolved when it is first needed,
// so that a kernel without one of them serves for everything else.
type members[T any] struct {
	once sync.Once
	v    T
	err  error
}

func (m *members[T]) of(k *Kernel) (*T, error) {
	m.once.Do(func() { m.err = k.resolveMembers(reflect.ValueOf(&m.v).Elem()) })
	return &m.v, m.err
}

func (k *Kernel) resolveMembers(v reflect.Value) error {
	for i := range v.NumField() {
		paths, optional := strings.CutSuffix(v.Type().Field(i).Tag.Get("btf"), "?")
		f, err := k.anyField(paths)
		switch {
		case err == nil:
			v.Field(i).Set(reflect.ValueOf(f))
		case !optional || !errors.Is(err, ErrNoField):
			return fmt.Errorf("kernel %s: %w", k.release, err)
		}
	}
	return nil
}

// anyField resolves the first of several paths, with "|" between them, that the
// kernel has.
func (k *Kernel) anyField(paths string) (Field, error) {
	for path := range strings.SplitSeq(paths, "|") {
		f, err := k.Field(path)
		if !errors.Is(err, ErrNoField) {
			return f, err
		}
	}
	return Field{}, fmt.Errorf("%w: %s", ErrNoField, strings.ReplaceAll(paths, "|", " or "))
}

// reader reads structures of the guest and keeps the first error; from then on
// everything it reads is 0.
type reader struct {
	s   vmi.AddressSpace
	err error
}

func (r *reader) uint(f Field, base vmi.VirtAddr) uint64 {
	if r.err != nil {
		return 0
	}
	v, err := f.Uint(r.s, base)
	if err != nil {
		r.err = fmt.Errorf("%s: %w", f.Path, err)
		return 0
	}
	return v
}

func (r *reader) ptr(f Field, base vmi.VirtAddr) vmi.VirtAddr { return vmi.VirtAddr(r.uint(f, base)) }

// in returns the address of a member, or 0 after an error.
func (r *reader) in(f Field, base vmi.VirtAddr) vmi.VirtAddr {
	if r.err != nil {
		return 0
	}
	return base + vmi.VirtAddr(f.Offset)
}

// bytes reads a member as it is.
func (r *reader) bytes(f Field, base vmi.VirtAddr) []byte {
	if r.err != nil {
		return nil
	}
	if f.Size > maxMember {
		r.err = fmt.Errorf("%w: %s has %d bytes", ErrCorrupt, f.Path, f.Size)
		return nil
	}
	b := make([]byte, f.Size)
	if _, err := r.s.Read(base+vmi.VirtAddr(f.Offset), b); err != nil {
		r.err = fmt.Errorf("%s: %w", f.Path, err)
		return nil
	}
	return b
}

// maxMember bounds a member that is read whole.
const maxMember = 1 << 16

// cstring reads a string of at most max bytes.
func (r *reader) cstring(at vmi.VirtAddr, max int) string {
	if r.err != nil || at == 0 {
		return ""
	}
	s, err := r.s.CString(at, max)
	if err != nil {
		r.err = err
	}
	return s
}

// fail notes an error, or nil, if there is none yet.
func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}
