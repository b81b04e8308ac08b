package hcbuf_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/hcbuf"
	"github.com/govmi/govmi/internal/xenfake"
)

func newPool(t *testing.T) (*xenfake.Xen, *hcbuf.Pool) {
	x := xenfake.New(t, nil)
	dev, err := x.Open(device.Hypercall)
	if err != nil {
		t.Fatal(err)
	}
	return x, hcbuf.NewPool(dev)
}

func TestPool(t *testing.T) {
	x, p := newPool(t)
	var bufs []*hcbuf.Buffer
	seen := map[uint64]bool{}
	for range 40 { // more than one slab
		b, err := p.Get(100)
		if err != nil {
			t.Fatal(err)
		}
		m := hcbuf.New[[100]byte](b)
		if *m != [100]byte{} {
			t.Error("not zeroed")
		}
		m[0], m[99] = 1, 1
		if a := hcbuf.Addr(m); seen[a] {
			t.Errorf("%#x handed out twice", a)
		} else {
			seen[a] = true
		}
		bufs = append(bufs, b)
	}
	if err := p.Close(); err == nil {
		t.Error("closed with buffers in use")
	}
	for _, b := range bufs {
		if err := errors.Join(b.Free(), b.Free()); err != nil {
			t.Error(err)
		}
	}
	b, err := p.Get(16)
	if err != nil {
		t.Fatal(err)
	}
	if *hcbuf.New[[16]byte](b) != [16]byte{} {
		t.Error("a used page was not zeroed")
	}
	if a := hcbuf.Addr(hcbuf.New[byte](b)); a%8 != 0 {
		t.Errorf("second piece at %#x", a)
	}
	b.Free()

	big, err := p.Get(3*abi.PageSize + 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(big.Bytes(3*abi.PageSize + 1)); n != 3*abi.PageSize+1 {
		t.Error(n)
	}
	if err := big.Free(); err != nil {
		t.Error(err)
	}
	for _, size := range []int{0, -1, 1<<30 + 1} {
		if _, err := p.Get(size); err == nil {
			t.Errorf("a buffer of %d bytes", size)
		}
	}
	x.FailCall(1, syscall.ENOMEM)
	if _, err := p.Get(2 * abi.PageSize); !errors.Is(err, syscall.ENOMEM) {
		t.Error(err)
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	if _, err := p.Get(1); err == nil {
		t.Error("a buffer from a closed pool")
	}
	if l := x.Leaks(); l != nil {
		t.Error(l)
	}
}

func TestOverlayPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"short":      func() { hcbuf.Overlay[uint64](make([]byte, 7)) },
		"misaligned": func() { hcbuf.Overlay[uint64](make([]byte, 64)[1:]) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
