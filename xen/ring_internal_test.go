package xen

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"unsafe" // aligned memory

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/abi"
)

func newPage() []byte {
	words := make([]uint64, abi.PageSize/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), abi.PageSize)
}

// slot lays a request out by the offsets of Xen's headers, not by our structs.
type slot struct{ b []byte }

func (s slot) u16(off int, v uint16) { binary.LittleEndian.PutUint16(s.b[off:], v) }
func (s slot) u32(off int, v uint32) { binary.LittleEndian.PutUint32(s.b[off:], v) }
func (s slot) u64(off int, v uint64) { binary.LittleEndian.PutUint64(s.b[off:], v) }

func TestDecodeRequest(t *testing.T) {
	for _, version := range []uint32{abi.VMEventV6, abi.VMEventV7} {
		s := slot{newPage()}
		s.u32(0, version)
		s.u32(4, 0x81)
		s.u32(8, 6)
		s.u32(12, 3)
		s.u16(16, 2)
		s.u64(24, 0x1234)
		s.u32(40, 2)
		s.b[44] = 4
		for i := range 16 { // rax to r15
			s.u64(56+8*i, uint64(100+i))
		}
		s.u64(184, 1)
		s.u64(192, 2)
		s.u64(200, 3)
		s.u64(208, 4)
		s.u64(216, 5)
		s.u64(224, 6)
		s.u64(232, 7)
		s.u64(240, 8)
		s.u64(248, 9)
		s.u64(256, 10)
		s.u64(264, 11)
		s.u64(272, 12)
		s.u64(280, 13)
		s.u64(288, 14)
		s.u64(296, 15)
		base := 304 // of what version 7 moved by 16 bytes
		if version == abi.VMEventV7 {
			base = 320
			s.u64(304, ^uint64(0))
			s.u64(312, ^uint64(0))
		}
		s.u32(base, 16)             // cs_base
		s.u64(base+16, 17)          // fs_base
		s.u64(base+24, 18)          // gs_base
		s.u32(base+32, 0xafbfffff)  // cs: granularity set
		s.u32(base+36, 0x0f3<<20|9) // ss: not
		s.u64(base+56, 19)          // shadow_gs
		s.u16(base+64, 20)          // gdtr_limit
		s.u16(base+66, 0x33)        // cs_sel
		s.u16(base+76, 0x2b)        // gs_sel

		req := Request{Ctrl: CtrlRegWrite{New: 99}}
		req.Regs.RAX = 99
		if err := decodeRequest(s.b, version, &req); err != nil {
			t.Fatal(err)
		}
		want := Request{
			Reason: ReasonSoftwareBreakpoint, VCPU: 3, Flags: 0x81, View: 2,
			Breakpoint: SoftwareBreakpoint{GFN: 0x1234, InsnLength: 2, Type: 4},
			Regs: Registers{
				RAX: 100, RCX: 101, RDX: 102, RBX: 103, RSP: 104, RBP: 105, RSI: 106, RDI: 107,
				R8: 108, R9: 109, R10: 110, R11: 111, R12: 112, R13: 113, R14: 114, R15: 115,
				RFLAGS: 1, DR6: 2, DR7: 3, RIP: 4, CR0: 5, CR2: 6, CR3: 7, CR4: 8,
				SysenterCS: 9, SysenterESP: 10, SysenterEIP: 11, EFER: 12, STAR: 13, LSTAR: 14, GDTRBase: 15,
				CS:       Segment{Selector: 0x33, Access: 0xafb, Limit: 0xffffffff, Base: 16},
				SS:       Segment{Access: 0x0f3, Limit: 9},
				FS:       Segment{Base: 17},
				GS:       Segment{Selector: 0x2b, Base: 18},
				ShadowGS: 19, GDTRLimit: 20,
			},
		}
		if diff := cmp.Diff(want, req); diff != "" {
			t.Errorf("v%d: %s", version, diff)
		}

		s.u32(8, 4)
		s.u32(24, 2)
		s.u64(32, 0xaaa)
		s.u64(40, 0xbbb)
		if err := decodeRequest(s.b, version, &req); err != nil {
			t.Fatal(err)
		}
		want.Reason, want.Breakpoint = ReasonWriteCtrlReg, SoftwareBreakpoint{}
		want.Ctrl = CtrlRegWrite{Reg: CR4, New: 0xaaa, Old: 0xbbb}
		if diff := cmp.Diff(want, req); diff != "" {
			t.Errorf("v%d: %s", version, diff)
		}

		s.u32(8, 7)
		s.u64(24, 0xabc)
		if err := decodeRequest(s.b, version, &req); err != nil {
			t.Fatal(err)
		}
		want.Reason, want.Ctrl = ReasonSingleStep, CtrlRegWrite{}
		want.Step = SingleStep{GFN: 0xabc}
		if diff := cmp.Diff(want, req); diff != "" {
			t.Errorf("v%d: %s", version, diff)
		}
	}
}

func TestRingDiscipline(t *testing.T) {
	page := newPage()
	page[100] = 0xff
	r := newRing(page, abi.VMEventV7)
	want := newPage()
	want[abi.RingReqEvent], want[abi.RingRspEvent] = 1, 1
	if diff := cmp.Diff(want, page); diff != "" {
		t.Errorf("the prepared page: %s", diff)
	}
	prod := slot{page}
	if n, err := r.pending(); n != 0 || err != nil {
		t.Errorf("pending() = %d, %v", n, err)
	}
	if err := r.answer(&Response{}); err == nil {
		t.Error("answer without a request")
	}
	if r.publish() {
		t.Error("publish of nothing")
	}
	for _, n := range []uint32{9, 1 << 31, ^uint32(0)} {
		prod.u32(abi.RingReqProd, n)
		if _, err := r.pending(); err != errRing {
			t.Errorf("req_prod %d: %v", n, err)
		}
	}
	prod.u32(abi.RingReqProd, 8)
	if n, err := r.pending(); n != 8 || err != nil {
		t.Errorf("pending() = %d, %v", n, err)
	}
	var req Request
	if err := r.take(&req); err == nil { // version 0 in the slot
		t.Error("a request of version 0 was decoded")
	}
	if err := r.take(&req); err == nil || r.reqCons != 1 {
		t.Errorf("second take: %v", err)
	}
	if err := r.answer(&Response{}); err != nil {
		t.Error(err)
	}
	if page[abi.RingRspProd] != 0 {
		t.Error("published too early")
	}
	if !r.publish() || page[abi.RingRspProd] != 1 || !r.publish() {
		t.Error("not published, or notification forgotten")
	}
	if r.notified(); r.publish() {
		t.Error("notification wanted twice")
	}
	if v := binary.LittleEndian.Uint32(page[abi.RingEntries:]); v != abi.VMEventV7 {
		t.Errorf("the answer has version %d", v)
	}
}

// The indices run over 32 bits.
func TestRingWrap(t *testing.T) {
	page := newPage()
	r := newRing(page, abi.VMEventV7)
	start := ^uint32(0) - 3
	r.reqCons, r.rspProd, r.told = start, start, start
	slot{page}.u32(abi.RingReqProd, start+8)
	n, err := r.pending()
	if n != 8 || err != nil {
		t.Fatalf("pending() = %d, %v", n, err)
	}
	var req Request
	for range n {
		slot{r.entry(r.reqCons)}.u32(0, abi.VMEventV7)
		if err := errors.Join(r.take(&req), r.answer(&Response{})); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := r.pending(); n != 0 || err != nil || r.rspProd != start+8 {
		t.Errorf("pending() = %d, %v, rsp_prod %d", n, err, r.rspProd)
	}
}

// Eight events, as many as the ring has, are taken and answered together.
func BenchmarkRing(b *testing.B) {
	page := newPage()
	r := newRing(page, abi.VMEventV7)
	var req Request
	b.ReportAllocs()
	for b.Loop() {
		for i := range uint32(abi.RingSlots) {
			e := slot{r.entry(i)}
			e.u32(0, abi.VMEventV7)
			e.u32(8, uint32(ReasonGuestRequest))
		}
		slot{page}.u32(abi.RingReqProd, r.reqCons+abi.RingSlots)
		n, err := r.pending()
		for ; n > 0 && err == nil; n-- {
			err = errors.Join(r.take(&req), r.answer(&Response{}))
		}
		if err != nil || !r.publish() {
			b.Fatal(err)
		}
		r.notified()
	}
}

func FuzzDecodeRequest(f *testing.F) {
	for _, v := range []uint32{abi.VMEventV6, abi.VMEventV7} {
		s := slot{make([]byte, 400)}
		s.u32(0, v)
		s.u32(8, 4)
		f.Add(v, s.b)
	}
	f.Fuzz(func(t *testing.T, version uint32, data []byte) {
		size := abi.VMEventSize(version)
		if size == 0 {
			return
		}
		b := newPage()[:size]
		copy(b, data)
		var a, z Request
		a.Regs.RIP, a.Ctrl.New, a.Breakpoint.GFN, a.Step.GFN = 1, 1, 1, 1 // must all be overwritten
		errA, errZ := decodeRequest(b, version, &a), decodeRequest(b, version, &z)
		if (errA == nil) != (errZ == nil) || a != z {
			t.Errorf("two decodings differ: %+v, %+v", a, z)
		}
	})
}

// Whatever is in the page, the response index never passes the request index
// and every request taken is answered once.
func FuzzRing(f *testing.F) {
	f.Add(make([]byte, 64), uint32(3))
	f.Fuzz(func(t *testing.T, page []byte, prod uint32) {
		p := newPage()
		r := newRing(p, abi.VMEventV7)
		copy(p, page)
		slot{p}.u32(abi.RingReqProd, prod)
		n, err := r.pending()
		if err != nil {
			return
		}
		if n > abi.RingSlots {
			t.Fatalf("%d pending", n)
		}
		var req Request
		for range n {
			r.take(&req)
			if err := r.answer(&Response{Action: Action(prod >> 8), Step: Step(prod >> 10), Switch: prod&1 != 0}); err != nil && !errors.Is(err, errResponse) {
				t.Fatal(err)
			}
		}
		if r.rspProd != r.reqCons || r.reqCons != prod {
			t.Fatalf("rsp_prod %d, req_cons %d, req_prod %d", r.rspProd, r.reqCons, prod)
		}
	})
}

func FuzzContext(f *testing.F) {
	f.Add(make([]byte, 1032))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newPage()[:1032]
		copy(b, data)
		var r Registers
		r.fromContext((*abi.HVMHWCPU)(unsafe.Pointer(&b[0])))
		if r.RIP != binary.LittleEndian.Uint64(b[640:]) || r.CS.Access != binary.LittleEndian.Uint16(b[888:]) {
			t.Errorf("%+v", r)
		}
		if cpl := r.CPL(); cpl < 0 || cpl > 3 {
			t.Errorf("CPL() = %d", cpl)
		}
	})
}

func FuzzContextRecords(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 0, 0, 0, 7, 7, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 7, 7})
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		records, err := decodeContext(data)
		size := 0
		for _, r := range records {
			if r.Type == 0 {
				t.Error("the end is a record")
			}
			size += 8 + len(r.Data)
		}
		if size > len(data) || err == nil && size+8 > len(data) {
			t.Errorf("%d bytes of records in %d, %v", size, len(data), err)
		}
	})
}

func FuzzDomainInfo(f *testing.F) {
	f.Add(make([]byte, 96))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newPage()[:96]
		copy(b, data)
		i := decodeInfo((*abi.GetDomainInfo)(unsafe.Pointer(&b[0])))
		if i.ID != DomID(binary.LittleEndian.Uint16(b)) || !i.Shutdown && i.ShutdownReason != 0 {
			t.Errorf("%+v", i)
		}
	})
}

func TestFailOneLine(t *testing.T) {
	err := fail("op", 3, errors.Join(errors.New("one"), context.Canceled), "")
	if want := "xen: domain 3: op (one; context canceled)"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	if !errors.Is(err, context.Canceled) {
		t.Error("the cause is lost")
	}
	if fail("op", 3, nil, "advice") != nil {
		t.Error("a failure of nothing")
	}
}
