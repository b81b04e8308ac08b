//go:build lab

package linux_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

// What is written to a number of the guest's kernel is what the guest says of it, and
// the other way round.
func TestLabWrite(t *testing.T) {
	ctx := t.Context()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	d, _ := openDomain(t, g.DomID())
	mem := vmi.NewMemory(vmi.MapperFunc(d.MapFrames), nil)
	defer mem.Close()
	k, err := linux.Open(mem, registers(t, d))
	if err != nil {
		t.Fatal(err)
	}
	at, err := k.Symbols().Lookup("panic_timeout")
	if err != nil {
		t.Fatal(err)
	}
	space := k.AddressSpace()
	before, err := space.Uint32(at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := space.Write(at, binary.LittleEndian.AppendUint32(nil, before)); err != nil {
			t.Error(err)
		}
	}()
	if n, err := space.Write(at, binary.LittleEndian.AppendUint32(nil, 4321)); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	if out := g.MustExec(ctx, "cat /proc/sys/kernel/panic"); out != "4321\n" {
		t.Errorf("the guest says %q", out)
	}
	g.MustExec(ctx, "echo 1234 >/proc/sys/kernel/panic")
	pieces := []vmi.Piece{{Addr: at, Data: make([]byte, 4)}, {Addr: 8, Data: make([]byte, 1)}}
	if err := space.ReadPieces(pieces); !errors.Is(err, vmi.ErrNotPresent) || pieces[0].Err != nil {
		t.Error(err)
	}
	if v := binary.LittleEndian.Uint32(pieces[0].Data); v != 1234 {
		t.Errorf("the guest has written 1234, read %d", v)
	}
}
