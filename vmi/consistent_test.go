package vmi_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/internal/fakeguest"
	"github.com/govmi/govmi/xen"
)

// pauser notes what is done to a guest.
type pauser struct {
	did  []string
	fail error // of Pause
}

func (p *pauser) Pause() error {
	p.did = append(p.did, "pause")
	return p.fail
}

func (p *pauser) Unpause() error {
	p.did = append(p.did, "unpause")
	return nil
}

func TestConsistent(t *testing.T) {
	wrong := errors.New("wrong")
	g := fakeguest.New()
	g.Private = true // a mapping keeps the page that there was
	g.Write(0, []byte{1})
	m := vmi.NewMemory(g, nil)
	defer m.Close()
	read := func() byte {
		t.Helper()
		var b [1]byte
		if _, err := m.ReadAt(b[:], 0); err != nil {
			t.Fatal(err)
		}
		return b[0]
	}
	read()
	g.Remove(0)
	g.Write(0, []byte{2})
	if b := read(); b != 1 {
		t.Errorf("a mapping shows the guest's new page: %d", b)
	}
	for _, tt := range []struct {
		name string
		fail error // of Pause
		f    func(p *pauser) error
		want error
		did  []string
	}{
		{"reads", nil, func(p *pauser) error {
			if b := read(); b != 2 {
				t.Errorf("read %d", b)
			}
			p.did = append(p.did, "f")
			return nil
		}, nil, []string{"pause", "f", "unpause"}},
		{"error", nil, func(*pauser) error { return wrong }, wrong, []string{"pause", "unpause"}},
		{"no domain", xen.ErrNoDomain, func(*pauser) error { return wrong }, xen.ErrNoDomain, []string{"pause"}},
		{"panic", nil, func(*pauser) error { panic(wrong) }, wrong, []string{"pause", "unpause"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &pauser{fail: tt.fail}
			err := func() (err error) {
				defer func() {
					if r := recover(); r != nil {
						err = r.(error)
					}
				}()
				return m.Consistent(p, func() error { return tt.f(p) })
			}()
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if d := cmp.Diff(tt.did, p.did); d != "" {
				t.Error(d)
			}
		})
	}
}
