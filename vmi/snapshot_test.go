package vmi_test

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/internal/fakeguest"
	"github.com/govmi/govmi/xen"
)

func open(b []byte) (vmi.Snapshot, error) {
	return vmi.OpenSnapshot(bytes.NewReader(b), int64(len(b)))
}

// record makes a recording of the frames of a guest, each filled with its
// number's low byte.
func record(t testing.TB, info vmi.RecordingInfo, gfns ...xen.GFN) []byte {
	t.Helper()
	g := fakeguest.New()
	r := vmi.NewRecorder(g)
	m := vmi.NewMemory(r, &vmi.MemoryOptions{Batch: 1})
	defer m.Close()
	for _, f := range gfns {
		a := vmi.PhysAddr(f << xen.PageShift)
		g.Write(a, bytes.Repeat([]byte{byte(f)}, xen.PageSize))
		if _, err := m.Uint64(a); err != nil {
			t.Fatal(err)
		}
	}
	g.Write(0xfff000, []byte{1})                  // not read
	if _, err := m.Uint64(0xaaa000); err == nil { // not there
		t.Fatal("read a frame that is not there")
	}
	if r.Len() != len(gfns) {
		t.Errorf("%d frames noted, want %d", r.Len(), len(gfns))
	}
	var b bytes.Buffer
	if err := r.Save(&b, info); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRecording(t *testing.T) {
	var gfns []xen.GFN
	for i := range xen.GFN(150) {
		gfns = append(gfns, 7+i*3)
	}
	info := vmi.RecordingInfo{Comment: "a guest", Registers: []xen.Registers{{CR3: 1<<63 | 0x1234000, LSTAR: ^uint64(0), GS: xen.Segment{Base: 5}}}}
	b := record(t, info, gfns...)
	s, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	info.Version = 1
	if d := cmp.Diff(info, s.(*vmi.Recording).Info()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(info.Registers, s.Registers()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(gfns, slices.Collect(s.GFNs())); d != "" {
		t.Error(d)
	}
	m := vmi.NewMemory(s, nil)
	defer m.Close()
	for _, g := range slices.Backward(gfns) {
		var p [xen.PageSize]byte
		if _, err := m.ReadAt(p[:], vmi.PhysAddr(g<<xen.PageShift)); err != nil || p != [xen.PageSize]byte(bytes.Repeat([]byte{byte(g)}, xen.PageSize)) {
			t.Fatalf("frame %v: %v", g, err)
		}
	}
	if _, err := m.Uint64(0xfff000); !errors.Is(err, vmi.ErrNotInFile) || !errors.Is(err, vmi.ErrNotMapped) {
		t.Errorf("a frame that was not read: %v", err)
	}
}

// repack copies a zip archive, member by member.
func repack(t testing.TB, b []byte, edit func(name string, p []byte) []byte) []byte {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range r.File {
		m, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(m)
		if err != nil {
			t.Fatal(err)
		}
		if p = edit(f.Name, p); p == nil {
			continue
		}
		to, err := w.Create(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRecordingRejects(t *testing.T) {
	good := record(t, vmi.RecordingInfo{}, 1, 2, 3)
	for _, tt := range []struct {
		name string
		edit func(name string, p []byte) []byte
		text string
	}{
		{"no frames", func(n string, p []byte) []byte {
			if n == "frames" {
				return nil
			}
			return p
		}, "no member frames"},
		{"no pages", func(n string, p []byte) []byte {
			if n == "pages/0" {
				return nil
			}
			return p
		}, "no member pages/0"},
		{"order", func(n string, p []byte) []byte {
			if n == "frames" {
				p[0] = 9
			}
			return p
		}, "not in order"},
		{"half a number", func(n string, p []byte) []byte {
			if n == "frames" {
				return p[:12]
			}
			return p
		}, "cut short"},
		{"version", func(n string, p []byte) []byte {
			if n == "recording.json" {
				return []byte(`{"Version": 2}`)
			}
			return p
		}, "version 2"},
		{"no JSON", func(n string, p []byte) []byte {
			if n == "recording.json" {
				return []byte(`what`)
			}
			return p
		}, "recording.json"},
	} {
		_, err := open(repack(t, good, tt.edit))
		if !errors.Is(err, vmi.ErrFormat) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, n := range []int{4, 100, len(good) - 1} {
		if _, err := open(good[:n]); !errors.Is(err, vmi.ErrFormat) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	// Damage within pages shows when they are read.
	for name, edit := range map[string]func(n string, p []byte) []byte{
		"cut": func(n string, p []byte) []byte {
			if n == "pages/0" {
				return p[:len(p)-1]
			}
			return p
		},
		"too long": func(n string, p []byte) []byte {
			if n == "pages/0" {
				return append(p, 1)
			}
			return p
		},
	} {
		s, err := open(repack(t, good, edit))
		if err != nil {
			t.Fatal(err)
		}
		m := vmi.NewMemory(s, nil)
		if _, err := m.Uint64(0x1000); !errors.Is(err, vmi.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
		m.Close()
	}
	bad := bytes.Clone(good)
	i := bytes.Index(bad, []byte("pages/0")) + len("pages/0")
	bad[i+2] ^= 0x10 // in the compressed pages
	if s, err := open(bad); err == nil {
		m := vmi.NewMemory(s, nil)
		defer m.Close()
		if _, err := m.Uint64(0x1000); !errors.Is(err, vmi.ErrFormat) {
			t.Errorf("a flipped bit: %v", err)
		}
	}
}

// dumpOptions vary a core dump; the zero value is one of a PVH guest.
type dumpOptions struct {
	pv     bool
	magic  uint64
	page   uint64 // size
	format uint64
	drop   string // a section
}

// coreDump makes a dump as xl dump-core does: no segments, sections in front of
// the pages.
func coreDump(o dumpOptions, gfns []uint64) []byte {
	le := binary.LittleEndian
	if o.magic == 0 {
		o.magic = 0xf00febee
		if o.pv {
			o.magic = 0xf00febed
		}
	}
	if o.page == 0 {
		o.page = xen.PageSize
	}
	if o.format == 0 {
		o.format = 1
	}
	note := func(kind uint32, desc ...uint64) []byte {
		b := le.AppendUint32(nil, 4)
		b = le.AppendUint32(b, uint32(8*len(desc)))
		b = append(le.AppendUint32(b, kind), "Xen\x00"...)
		for _, v := range desc {
			b = le.AppendUint64(b, v)
		}
		return b
	}
	vcpu := make([]byte, 5168)
	for i := range len(vcpu) / 8 {
		le.PutUint64(vcpu[8*i:], uint64(i))
	}
	var table, pages []byte
	for i, g := range gfns {
		if o.pv {
			table = le.AppendUint64(table, uint64(i))
		}
		table = le.AppendUint64(table, g)
		pages = append(pages, bytes.Repeat([]byte{byte(g)}, xen.PageSize)...)
	}
	tableName := ".xen_pfn"
	if o.pv {
		tableName = ".xen_p2m"
	}
	type section struct {
		name string
		kind elf.SectionType
		data []byte
	}
	sections := []section{
		{"", elf.SHT_NULL, nil},
		{".note.Xen", elf.SHT_NOTE, slices.Concat(note(0x2000000), note(0x2000001, o.magic, 1, uint64(len(gfns)), o.page), note(0x2000003, o.format))},
		{".xen_prstatus", elf.SHT_PROGBITS, vcpu},
		{tableName, elf.SHT_PROGBITS, table},
		{".xen_pages", elf.SHT_PROGBITS, pages},
	}
	sections = slices.DeleteFunc(sections, func(s section) bool { return s.name != "" && s.name == o.drop })
	names := []byte{0}
	sections = append(sections, section{".shstrtab", elf.SHT_STRTAB, nil})
	var headers, body []byte
	start := 64 + 64*len(sections)
	for i, s := range sections {
		name := uint32(0)
		if s.name != "" {
			name = uint32(len(names))
			names = append(append(names, s.name...), 0)
		}
		if i == len(sections)-1 {
			s.data = names
		}
		h := le.AppendUint32(nil, name)
		h = le.AppendUint32(h, uint32(s.kind))
		h = append(h, make([]byte, 16)...)
		h = le.AppendUint64(h, uint64(start+len(body)))
		h = le.AppendUint64(h, uint64(len(s.data)))
		headers = append(headers, append(h, make([]byte, 64-len(h))...)...)
		body = append(body, s.data...)
	}
	ident := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b := le.AppendUint16(ident, uint16(elf.ET_CORE))
	b = le.AppendUint16(b, uint16(elf.EM_X86_64))
	b = le.AppendUint32(b, 1)
	b = append(b, make([]byte, 16)...)
	b = le.AppendUint64(b, 64) // sections
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 0, 0, 64, uint16(len(sections)), uint16(len(sections) - 1)} {
		b = le.AppendUint16(b, v)
	}
	return slices.Concat(b, headers, body)
}

func TestCoreDump(t *testing.T) {
	for _, pv := range []bool{false, true} {
		gfns := []uint64{5, 3, 0x12345, ^uint64(0), 9}
		s, err := open(coreDump(dumpOptions{pv: pv}, gfns))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]xen.GFN{3, 5, 9, 0x12345}, slices.Collect(s.GFNs())); d != "" {
			t.Error(d)
		}
		m := vmi.NewMemory(s, nil)
		for g := range s.GFNs() {
			if v, err := m.Uint64(vmi.PhysAddr(g << xen.PageShift)); err != nil || byte(v) != byte(g) {
				t.Errorf("frame %v: %#x, %v", g, v, err)
			}
		}
		if _, err := m.Uint64(0x4000); !errors.Is(err, vmi.ErrNotInFile) {
			t.Errorf("a frame that is not there: %v", err)
		}
		m.Close()
		// The dump's words are their own numbers.
		regs := s.Registers()
		if len(regs) != 1 {
			t.Fatalf("%d vCPUs", len(regs))
		}
		r := regs[0]
		want := xen.Registers{R15: 65, RDI: 79, RIP: 81, RFLAGS: 83, RSP: 84, CR0: 623, CR3: 626, CR4: 627,
			FS: xen.Segment{Selector: 88, Base: 643}, GS: xen.Segment{Selector: 89, Base: 645}, ShadowGS: 644}
		got := xen.Registers{R15: r.R15, RDI: r.RDI, RIP: r.RIP, RFLAGS: r.RFLAGS, RSP: r.RSP, CR0: r.CR0, CR3: r.CR3, CR4: r.CR4,
			FS: r.FS, GS: r.GS, ShadowGS: r.ShadowGS}
		if d := cmp.Diff(want, got); d != "" || r.CPL() != 2 { // CS is 82
			t.Errorf("CPL %d, registers %s", r.CPL(), d)
		}
	}
}

func TestCoreDumpRejects(t *testing.T) {
	gfns := []uint64{1, 2, 3}
	good := coreDump(dumpOptions{}, gfns)
	change := func(off int, v byte) []byte {
		b := bytes.Clone(good)
		b[off] = v
		return b
	}
	for _, tt := range []struct {
		name string
		dump []byte
		text string
	}{
		{"cut in the pages", good[:len(good)-4*xen.PageSize+100], ""},
		{"cut in the headers", good[:200], ""},
		{"no pages", coreDump(dumpOptions{drop: ".xen_pages"}, gfns), "no section .xen_pages"},
		{"no frames", coreDump(dumpOptions{drop: ".xen_pfn"}, gfns), "no section .xen_pfn"},
		{"no registers", coreDump(dumpOptions{drop: ".xen_prstatus"}, gfns), "no section .xen_prstatus"},
		{"no notes", coreDump(dumpOptions{drop: ".note.Xen"}, gfns), "no Xen core dump"},
		{"another magic", coreDump(dumpOptions{magic: 1}, gfns), "no header note"},
		{"another page size", coreDump(dumpOptions{page: 16384}, gfns), "16384"},
		{"another format", coreDump(dumpOptions{format: 2 << 32}, gfns), "2.0"},
		{"no page at all", coreDump(dumpOptions{}, nil), "0 pages"},
		{"a program", change(16, 2), "no core dump"},
		{"32 bit", change(4, 1), ""},
	} {
		if _, err := open(tt.dump); !errors.Is(err, vmi.ErrFormat) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestOpenSnapshotOfAnotherFile(t *testing.T) {
	for _, b := range [][]byte{nil, []byte("abc"), []byte("PK\x03\x04 but no zip"), []byte("some text of no page's length")} {
		if s, err := open(b); !errors.Is(err, vmi.ErrFormat) {
			t.Errorf("%q: %v, %v", b, s, err)
		}
	}
	s, err := open(bytes.Repeat([]byte("raw "), 2048))
	if err != nil || s.Registers() != nil || len(slices.Collect(s.GFNs())) != 2 {
		t.Errorf("raw image: %v, %v", s, err)
	}
}

func FuzzSnapshot(f *testing.F) {
	f.Add(coreDump(dumpOptions{}, []uint64{1, 2}))
	f.Add(coreDump(dumpOptions{pv: true}, []uint64{1, 2}))
	f.Add(record(f, vmi.RecordingInfo{Registers: make([]xen.Registers, 1)}, 1, 2))
	f.Add(make([]byte, xen.PageSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := open(b)
		if err != nil {
			if !errors.Is(err, vmi.ErrFormat) {
				t.Errorf("%v", err)
			}
			return
		}
		m := vmi.NewMemory(s, &vmi.MemoryOptions{MaxFrames: 16, Batch: 2})
		defer m.Close()
		n := 0
		for g := range s.GFNs() {
			if n++; n > 16 {
				break
			}
			_, _ = m.Uint64(vmi.PhysAddr(g << xen.PageShift))
		}
		s.Registers()
	})
}
