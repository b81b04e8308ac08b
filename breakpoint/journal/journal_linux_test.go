package journal_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/breakpoint/journal"
	"github.com/govmi/govmi/internal/xenfake"
	"github.com/govmi/govmi/xen"
)

func open(t *testing.T, d *xen.Domain, path string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(d, &journal.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func recovered(t *testing.T, d *xen.Domain, path string) *journal.Report {
	t.Helper()
	r, err := journal.Recover(d, &journal.RecoverOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A journal with something in it is in the way of the next one until the domain
// is recovered, whose report says what there was.
func TestReport(t *testing.T) {
	v := newVictim(t, true)
	before := v.look()
	d := v.open(t)
	j := open(t, d, v.path)
	jd := j.Domain()
	if err := jd.SetAltP2M(true); err != nil {
		t.Fatal(err)
	}
	view, err := jd.CreateView()
	err = errors.Join(err, jd.Populate(0x20), jd.Populate(0x21),
		jd.Patching(text, 0x100, []byte{0x55}), jd.Patching(text, 0x200, []byte{0x0f, 0x1f, 0x44, 0x00, 0x00}),
		jd.Patching(text+1, 0x100, []byte{0x55}), jd.Patching(text+1, 0x200, []byte{0x0f, 0x1f, 0x44, 0x00, 0x00}),
		jd.Patching(0x30, 0, []byte{0x90}))
	if err != nil || view != 1 {
		t.Fatalf("view %d, %v", view, err)
	}
	page := v.g.Page(text)
	page[0x100], page[0x200] = int3, int3
	next := v.g.Page(text + 1)
	next[0x200] = int3 // what the guest patches itself
	next[0x204] = 0x17

	if _, err := journal.Open(d, &journal.Options{Path: v.path}); !errors.Is(err, xen.ErrBusy) || !strings.Contains(err.Error(), "5 patched bytes, 2 pages, 1 views") {
		t.Errorf("the next journal: %v", err)
	}
	if err := j.Close(); err == nil || !strings.Contains(err.Error(), "recover") {
		t.Errorf("Close: %v", err)
	}
	want := &journal.Report{
		Path: v.path, Journal: true, Restored: []journal.Place{{GFN: text, Offset: 0x100}, {GFN: text, Offset: 0x200}},
		Changed: []journal.Place{{GFN: text + 1, Offset: 0x200}, {GFN: 0x30}},
		AltP2M:  true, Views: 1, Frames: []xen.GFN{0x20, 0x21}, MaxPages: uint64(before.MaxPages),
	}
	if d := cmp.Diff(want, recovered(t, d, v.path)); d != "" {
		t.Errorf("the report (-want +got):\n%s", d)
	}
	copy(next[0x200:], []byte{0x0f, 0x1f, 0x44, 0x00, 0x00})
	v.same(t, before)
	if d := cmp.Diff(&journal.Report{Path: v.path}, recovered(t, d, v.path)); d != "" {
		t.Errorf("the second report (-want +got):\n%s", d)
	}
	if _, err := os.Stat(v.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
	if err := open(t, d, v.path).Close(); err != nil {
		t.Error(err)
	}
}

// The frames that a monitor had closed are open after its death, whether it had
// come to closing them or not; and a monitor that ends leaves nothing to recover.
func TestRestricted(t *testing.T) {
	for _, closed := range []bool{true, false} {
		v := newVictim(t, true)
		before := v.look()
		h, err := xen.Open(&xen.Options{Devices: v.x})
		if err != nil {
			t.Fatal(err)
		}
		d, err := h.Domain(1)
		if err != nil {
			t.Fatal(err)
		}
		live := func() (*xen.Monitor, *journal.Journal) {
			t.Helper()
			mon, err := d.OpenMonitor(nil)
			if err != nil {
				t.Fatal(err)
			}
			j := open(t, d, v.path)
			if err := errors.Join(j.Domain().Restricting(text, 0), j.Domain().Restricting(text, 2)); err != nil {
				t.Fatal(err)
			}
			if closed {
				if err := mon.SetAccess(text, 2, xen.AccessR); err != nil {
					t.Fatal(err)
				}
			}
			return mon, j
		}
		mon, j := live()
		if n, _ := v.g.Restricted(); (n == 2) != closed {
			t.Errorf("%d frames are restricted", n)
		}
		if err := errors.Join(mon.Close(), j.Close()); err != nil {
			t.Error(err)
		}
		live()
		v.x.KillProcesses()
		d = v.open(t)
		if _, err := journal.Open(d, &journal.Options{Path: v.path}); !errors.Is(err, xen.ErrBusy) || !strings.Contains(err.Error(), "restricted") {
			t.Errorf("the next journal: %v", err)
		}
		want := &journal.Report{Path: v.path, Journal: true, Ring: true, Reopened: true}
		if d := cmp.Diff(want, recovered(t, d, v.path)); d != "" {
			t.Errorf("the report (-want +got):\n%s", d)
		}
		if n, _ := v.g.Restricted(); n != 0 {
			t.Errorf("%d frames are still restricted", n)
		}
		v.same(t, before)
	}
}

// What Xen does not allow a monitor was not done: it is not in the way of a recovery.
func TestRestrictingRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		views bool // Intel
		gfn   xen.GFN
	}{
		{"an AMD processor", false, text},
		{"a frame beyond the last", true, 1 << 30},
	} {
		v := newVictim(t, tt.views)
		before := v.look()
		d := v.open(t)
		mon, err := d.OpenMonitor(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := open(t, d, v.path).Domain().Restricting(tt.gfn, 1); err != nil {
			t.Fatal(err)
		}
		if err := mon.SetAccess(tt.gfn, 1, xen.AccessR); err == nil {
			t.Errorf("%s: allowed", tt.name)
		}
		v.x.KillProcesses()
		want := &journal.Report{Path: v.path, Journal: true, Ring: true}
		if d := cmp.Diff(want, recovered(t, v.open(t), v.path)); d != "" {
			t.Errorf("%s: the report (-want +got):\n%s", tt.name, d)
		}
		v.same(t, before)
	}
}

// A journal of the guest before its reboot, or of one that had the number before,
// is not applied to the one that has it now.
func TestReusedNumber(t *testing.T) {
	for _, tt := range []struct {
		name string
		next xenfake.DomainConfig
	}{
		{"rebooted", xenfake.DomainConfig{ID: 1, UUID: [16]byte{9}}},
		{"another guest", xenfake.DomainConfig{ID: 1, UUID: [16]byte{8}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := xenfake.New(t, nil)
			g := x.AddDomain(&xenfake.DomainConfig{ID: 1, UUID: [16]byte{9}})
			v := &victim{x: x, g: g, path: filepath.Join(t.TempDir(), "journal")}
			d := v.open(t)
			j := open(t, d, v.path)
			if err := errors.Join(j.Domain().Populate(0x20), j.Domain().Patching(text, 0x100, []byte{0x55})); err != nil {
				t.Fatal(err)
			}
			if err := j.Close(); err == nil {
				t.Error("closed with a page and a patched byte left")
			}
			again := func() *xenfake.Domain {
				g.Remove()
				g = x.AddDomain(&tt.next)
				g.SetPage(0x20, []byte("the guest's own"))
				g.SetPage(text, make([]byte, 0x100))
				g.Page(text)[0x100] = int3
				return g
			}
			g = again()
			if r := recovered(t, d, v.path); !r.Stale || r.Journal || len(r.Restored)+len(r.Frames) > 0 {
				t.Errorf("recovered: %+v", r)
			}
			if g.Page(0x20) == nil || g.Page(text)[0x100] != int3 {
				t.Error("the recovery of an earlier domain has harmed this one")
			}
			// The next monitor need not care either.
			j = open(t, d, v.path)
			if err := j.Domain().Patching(text, 0x100, []byte{0x55}); err != nil {
				t.Fatal(err)
			}
			if err := j.Close(); err == nil {
				t.Error("closed with a patched byte left")
			}
			again()
			j = open(t, d, v.path)
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A page that the guest has put where the monitor would have is not taken away,
// unless it is known to be the monitor's.
func TestDoubtful(t *testing.T) {
	v := newVictim(t, false)
	d := v.open(t)
	// The monitor dies when it has written down what it will do.
	j := open(t, d, v.path)
	if err := j.Domain().Populate(0x20); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(v.path)
	if err != nil {
		t.Fatal(err)
	}
	const there = 8 + 9 // the record that the page is there
	if err := os.WriteFile(v.path, b[:len(b)-there], 0o600); err != nil {
		t.Fatal(err)
	}
	// Somebody unpauses the domain.
	r := recovered(t, d, v.path)
	if diff := cmp.Diff([]xen.GFN{0x20}, r.Doubtful); diff != "" || v.g.Page(0x20) == nil {
		t.Errorf("%+v", r)
	}
	// And here nobody does.
	if err := errors.Join(os.WriteFile(v.path, b[:len(b)-there-1], 0o600), d.Pause()); err != nil {
		t.Fatal(err)
	}
	r = recovered(t, d, v.path)
	if !r.Torn || len(r.Frames)+len(r.Doubtful) > 0 { // not even that it is wanted was written down
		t.Errorf("%+v", r)
	}
	if err := errors.Join(os.WriteFile(v.path, b[:len(b)-there], 0o600), d.Pause()); err != nil {
		t.Fatal(err)
	}
	r = recovered(t, d, v.path)
	if diff := cmp.Diff([]xen.GFN{0x20}, r.Frames); diff != "" || v.g.Page(0x20) != nil {
		t.Errorf("%+v", r)
	}
	// One that the guest has all along is refused, and not written down.
	j = open(t, d, v.path)
	if err := j.Domain().Populate(text); !errors.Is(err, xen.ErrExists) {
		t.Errorf("populate the guest's own page: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// A limit that somebody else has set since stays.
func TestLimit(t *testing.T) {
	v := newVictim(t, false)
	before := v.look()
	d := v.open(t)
	limit := uint64(before.MaxPages)
	j := open(t, d, v.path)
	if err := errors.Join(j.Domain().SetMaxPages(limit+5), j.Domain().SetMaxPages(limit+6), j.Close()); err != nil {
		t.Fatal(err)
	}
	v.same(t, before)
	j = open(t, d, v.path)
	if err := errors.Join(j.Domain().SetMaxPages(limit+5), d.SetMaxPages(limit+9)); err != nil {
		t.Fatal(err)
	}
	if r := recovered(t, d, v.path); !r.LimitKept || r.MaxPages != limit+9 || v.g.MaxPages() != int(limit+9) {
		t.Errorf("%+v", r)
	}
}

func TestRefusedFiles(t *testing.T) {
	v := newVictim(t, false)
	before := v.look()
	d := v.open(t)
	v.x.AddDomain(&xenfake.DomainConfig{ID: 2})
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Recover(d, &journal.RecoverOptions{Path: v.path}); !errors.Is(err, xen.ErrBusy) {
		t.Errorf("beside a live monitor: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]error{
		"to whom it may concern":                journal.ErrCorrupt,
		"govmi journal 1\n\xff\xff\xff\xffxxxx": journal.ErrCorrupt,
	} {
		if err := os.WriteFile(v.path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := journal.Open(d, &journal.Options{Path: v.path}); !errors.Is(err, want) {
			t.Errorf("%q: Open: %v", content, err)
		}
		if _, err := journal.Recover(d, &journal.RecoverOptions{Path: v.path}); !errors.Is(err, want) {
			t.Errorf("%q: Recover: %v", content, err)
		}
		if b, err := os.ReadFile(v.path); err != nil || string(b) != content {
			t.Errorf("%q has become %q, %v", content, b, err)
		}
	}
	v.same(t, before)
	if err := os.Remove(v.path); err != nil {
		t.Fatal(err)
	}
	j := open(t, d, v.path)
	if err := j.Domain().Patching(text, 0x100, []byte{0x55}); err != nil {
		t.Fatal(err)
	}
	h, err := xen.Open(&xen.Options{Devices: v.x})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	d2, err := h.Domain(2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Open(d2, &journal.Options{Path: v.path}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("another domain's journal: %v", err)
	}
	if _, err := journal.Recover(d2, &journal.RecoverOptions{Path: v.path}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("recovery by another domain's journal: %v", err)
	}
	if _, err := journal.Open(d, &journal.Options{Path: filepath.Join(v.path, "x")}); err == nil {
		t.Error("a file below a file")
	}
}

// The file does not grow with what was undone, however often.
func TestBounded(t *testing.T) {
	v := newVictim(t, false)
	d := v.open(t)
	j := open(t, d, v.path)
	jd := j.Domain()
	if err := jd.Patching(text, 0x100, []byte{0x55}); err != nil {
		t.Fatal(err)
	}
	most := int64(0)
	for i := range 10000 {
		if err := jd.Patching(text, 0x200+i%100, []byte{0x90}); err != nil {
			t.Fatal(err)
		}
		jd.Unpatched(text, 0x200+i%100)
		info, err := os.Stat(v.path)
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, info.Size())
	}
	if most > 100<<10 {
		t.Errorf("the file had %d bytes", most)
	}
	v.g.Page(text)[0x100] = int3
	if r := recovered(t, d, v.path); len(r.Restored) != 1 || v.g.Page(text)[0x100] != 0x55 {
		t.Errorf("%+v", r)
	}
}

// A domain that is gone leaves nothing to undo.
func TestDomainGone(t *testing.T) {
	v := newVictim(t, false)
	d := v.open(t)
	j := open(t, d, v.path)
	if err := errors.Join(j.Domain().Populate(0x20), j.Domain().Patching(text, 0x100, []byte{0x55})); err != nil {
		t.Fatal(err)
	}
	v.g.Kill()
	if err := errors.Join(j.Close(), j.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(v.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
	if err := j.Domain().Patching(text, 0x100, []byte{0x55}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// What cannot be written down is not done.
func TestFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	v := newVictim(t, true)
	before := v.look()
	d := v.open(t)
	j := open(t, d, v.path)
	jd := j.Domain()
	restore := journal.SetFile(j, "/dev/full")
	if err := jd.SetAltP2M(true); err == nil {
		t.Error("altp2m on")
	}
	if err := jd.Populate(0x20); err == nil {
		t.Error("a page")
	}
	if err := jd.SetMaxPages(99); err == nil {
		t.Error("a limit")
	}
	if err := jd.Patching(text, 0x100, []byte{0x55}); err == nil {
		t.Error("a byte")
	}
	restore()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	v.same(t, before)
}

// A monitor that is not in dom0 is told nothing by XenStore, and keeps a journal
// all the same.
func TestStoreDenied(t *testing.T) {
	x := xenfake.New(t, &xenfake.Config{StoreDenied: true})
	x.AddDomain(&xenfake.DomainConfig{ID: 1})
	h, err := xen.Open(&xen.Options{Devices: x})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	d, err := h.Domain(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.StartTime(); !errors.Is(err, xen.ErrPermission) {
		t.Fatalf("start time: %v", err)
	}
	path := filepath.Join(t.TempDir(), "journal")
	j := open(t, d, path)
	before, err := d.Info()
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Domain().Populate(0x20); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err == nil || !strings.Contains(err.Error(), "recover") {
		t.Errorf("a journal that is not done closes with %v", err)
	}
	recovered(t, d, path)
	if after, err := d.Info(); err != nil || after.Pages != before.Pages {
		t.Errorf("%d pages, before %d; %v", after.Pages, before.Pages, err)
	}
}
