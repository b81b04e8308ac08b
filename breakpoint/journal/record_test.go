package journal

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/govmi/govmi/xen"
)

var someDomain = identity{id: 7, uuid: [16]byte{1, 2, 15: 3}, boot: [16]byte{4, 15: 5}, started: 1764259200_050000000, cpuTime: 12345}

// everything is one record of each kind, and more.
var everything = []record{
	{kind: kindDomain, domain: someDomain},
	{kind: kindAltP2M},
	{kind: kindView, view: 3},
	{kind: kindView, view: 4},
	{kind: kindViewGone, view: 3},
	{kind: kindFrame, gfn: 0x20000},
	{kind: kindFrameThere, gfn: 0x20000},
	{kind: kindFrame, gfn: 0x20001},
	{kind: kindFrameGone, gfn: 0x20001},
	{kind: kindFrame, gfn: 0x20002},
	{kind: kindPatch, gfn: 5, offset: 0xfff, insn: "\x55"},
	{kind: kindPatch, gfn: 5, offset: 0, insn: "\x0f\x1f\x44\x00\x00"},
	{kind: kindPatch, gfn: 6, offset: 0, insn: "123456789012345"},
	{kind: kindPatchGone, gfn: 6, offset: 0},
	{kind: kindLimit, before: 100, after: 102},
	{kind: kindLimit, before: 102, after: 104},
	{kind: kindLimitBack},
	{kind: kindLimit, before: 100, after: 102},
	{kind: kindLimit, before: 102, after: 103},
	{kind: kindLimit, before: 103, after: 104},
	{kind: kindAccess, gfn: 9, last: 9},
	{kind: kindAccess, gfn: 5, last: 7},
}

func file(records ...record) []byte {
	b := []byte(magic)
	for _, r := range records {
		b = r.append(b)
	}
	return b
}

var unexported = cmp.AllowUnexported(state{}, identity{}, limit{}, place{}, span{}, record{}, found{})

// What is written is what is read, and a state is what its own records make.
func TestParse(t *testing.T) {
	want := &state{
		domain: someDomain, altp2m: true,
		views:   map[xen.View]bool{4: true},
		frames:  map[xen.GFN]bool{0x20000: true, 0x20002: false},
		patches: map[place]string{{5, 0xfff}: "\x55", {5, 0}: "\x0f\x1f\x44\x00\x00"},
		limit:   limit{changed: true, before: 100, really: 103, last: 104},
		closed:  span{true, 5, 9},
	}
	for _, b := range [][]byte{file(everything...), want.append(nil)} {
		got, torn, err := parse(b)
		if d := cmp.Diff(want, got, unexported); d != "" || torn || err != nil {
			t.Errorf("torn %v, %v (-want +got):\n%s", torn, err, d)
		}
	}
	off := newState(someDomain)
	for _, r := range everything[:3] {
		off.apply(&r)
	}
	if off.empty() {
		t.Error("altp2m is on, and there is a view: not empty")
	}
	if off.apply(&record{kind: kindAltP2MOff}); !off.empty() {
		t.Errorf("altp2m is off: %v", off)
	}
}

// However far the last record got, the journal says what the others do.
func TestTorn(t *testing.T) {
	for n := range everything {
		whole := file(everything[:n]...)
		want, _, err := parse(whole)
		if err != nil {
			t.Fatal(err)
		}
		longer := everything[n].append(nil)
		for cut := 1; cut < len(longer); cut++ {
			got, torn, err := parse(append(whole[:len(whole):len(whole)], longer[:cut]...))
			if d := cmp.Diff(want, got, unexported); d != "" || !torn || err != nil {
				t.Fatalf("%d bytes of record %d: torn %v, %v (-want +got):\n%s", cut, n, torn, err, d)
			}
		}
	}
	for n := range len(magic) {
		if s, torn, err := parse([]byte(magic[:n])); s != nil || torn != (n > 0) || err != nil {
			t.Errorf("%d bytes: %v, %v, %v", n, s, torn, err)
		}
	}
}

func TestCorrupt(t *testing.T) {
	good := file(everything...)
	for i := range good {
		b := append([]byte(nil), good...)
		b[i] ^= 0x40
		s, torn, err := parse(b)
		// A length may come out as one that the file ends before.
		if err == nil && !torn {
			t.Errorf("byte %d damaged: %v", i, s)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("byte %d damaged: %v", i, err)
		}
	}
	body := func(b ...byte) []byte { // a record with a good checksum
		var r record
		out := r.append(nil)[:headSize]
		out = append(out, b...)
		out[0] = byte(len(b))
		c := checksum(b)
		out[4], out[5], out[6], out[7] = byte(c), byte(c>>8), byte(c>>16), byte(c>>24)
		return out
	}
	for name, b := range map[string][]byte{
		"text":                    []byte("to whom it may concern"),
		"no domain":               file(everything[1:]...),
		"two domains":             file(everything[0], everything[0]),
		"no kind":                 append(file(everything[0]), body(0)...),
		"a kind to come":          append(file(everything[0]), body(99)...),
		"short":                   append(file(everything[0]), body(byte(kindFrame), 1, 2)...),
		"long":                    append(file(everything[0]), body(byte(kindAltP2M), 1)...),
		"no instruction":          append(file(everything[0]), body(byte(kindPatch), 5, 0, 0, 0, 0, 0, 0, 0, 0, 0)...),
		"an instruction too far":  append(file(everything[0]), body(byte(kindPatch), 5, 0, 0, 0, 0, 0, 0, 0, 0xff, 0x0f, 1, 2)...),
		"a long instruction":      append(file(everything[0]), body(append([]byte{byte(kindPatch), 5, 0, 0, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 16)...)...)...),
		"frames backwards":        append(file(everything[0]), body(byte(kindAccess), 5, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0)...),
		"a place that is none":    append(file(everything[0]), body(byte(kindPatchGone), 5, 0, 0, 0, 0, 0, 0, 0, 0, 0x10)...),
		"a record without a body": append(file(everything[0]), 0, 0, 0, 0, 0, 0, 0, 0),
		"a long record":           append(file(everything[0]), 0, 0, 1, 0, 0, 0, 0, 0),
	} {
		if s, torn, err := parse(b); !errors.Is(err, ErrCorrupt) || s != nil {
			t.Errorf("%s: %v, torn %v, %v", name, s, torn, err)
		}
	}
}

// Whatever is in the file, it is read or refused, and what is read is written the
// same.
func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(magic))
	f.Add(file(everything...))
	f.Add(file(everything[:7]...)[:150])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, torn, err := parse(b)
		if err != nil {
			if s != nil || torn || !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v, torn %v, %v", s, torn, err)
			}
			return
		}
		if s == nil {
			return
		}
		again, torn, err := parse(s.append(nil))
		if d := cmp.Diff(s, again, unexported, cmpopts.EquateEmpty()); d != "" || torn || err != nil {
			t.Errorf("torn %v, %v (-read +written):\n%s", torn, err, d)
		}
		for p, insn := range s.patches {
			if insn == "" || int(p.offset)+len(insn) > xen.PageSize {
				t.Errorf("instruction %x at %v", insn, p)
			}
		}
	})
}
