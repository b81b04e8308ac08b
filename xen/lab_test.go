//go:build lab

package xen_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// childMode, in the environment, has the test program act as another one.
const childMode = "GOVMI_XEN_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "open":
		_, err := xen.Open(nil)
		fmt.Println(err, errors.Is(err, xen.ErrPermission))
	case "monitor": // dies with the ring taken
		h, err := xen.Open(nil)
		if err == nil {
			var d *xen.Domain
			if d, err = h.LookupDomain(os.Getenv("DOMAIN")); err == nil {
				_, err = d.OpenMonitor(nil)
			}
		}
		fmt.Println(err)
		os.Stdout.Sync()
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "die serving":
		dieServing()
	default:
		os.Exit(m.Run())
	}
}

func child(mode string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), childMode+"="+mode), env...)
	return cmd
}

func open(t *testing.T) *xen.Hypervisor {
	t.Helper()
	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func lookup(t *testing.T, g *labtest.Guest) *xen.Domain {
	t.Helper()
	d, err := open(t).LookupDomain(g.Name())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func sharedGuest(t *testing.T) *labtest.Guest {
	t.Helper()
	return labtest.SharedGuest(t, labtest.Ordinary())
}

func TestLabOpen(t *testing.T) {
	h := open(t)
	if v := h.Version(); v.Major != 4 || v.Minor < 14 {
		t.Errorf("Version() = %v", v)
	} else {
		t.Logf("Xen %v", v)
	}
}

func TestLabDomain(t *testing.T) {
	g := sharedGuest(t)
	h := open(t)
	d, err := h.DomainByName(g.Name())
	if err != nil {
		t.Fatal(err)
	}
	if d.ID() != g.DomID() {
		t.Errorf("ID() = %v, xl says %v", d.ID(), g.DomID())
	}
	if name, err := d.Name(); name != g.Name() || err != nil {
		t.Errorf("Name() = %q, %v", name, err)
	}
	if same, err := h.LookupDomain(d.ID().String()); err != nil || same.ID() != d.ID() {
		t.Errorf("LookupDomain(%v) = %v, %v", d.ID(), same, err)
	}
	seen := map[xen.DomID]xen.DomainInfo{}
	for info, err := range h.Domains() {
		if err != nil {
			t.Fatal(err)
		}
		seen[info.ID] = info
	}
	if _, ok := seen[0]; !ok || seen[d.ID()].Pages == 0 {
		t.Errorf("Domains() = %+v", seen)
	}

	running, err := d.Info()
	if err != nil {
		t.Fatal(err)
	}
	if !running.HVM || !running.HAP || running.Dying || running.Shutdown || running.Paused || running.OnlineVCPUs != 1 {
		t.Errorf("Info() = %+v", running)
	}
	if err := d.Pause(); err != nil {
		t.Fatal(err)
	}
	paused, err := d.Info()
	if err = errors.Join(err, d.Unpause()); err != nil {
		t.Fatal(err)
	}
	if !paused.Paused || paused.Running || paused.UUID != running.UUID {
		t.Errorf("Info() = %+v", paused)
	}
	g.MustExec(t.Context(), "true")
}

func TestLabBadInput(t *testing.T) {
	g := sharedGuest(t)
	h := open(t)
	dom0, err := h.Domain(0)
	if err != nil {
		t.Fatal(err)
	}
	d := lookup(t, g)
	for _, tt := range []struct {
		name string
		err  error
		is   error
		says string
	}{
		{"number", func() error { _, err := h.Domain(4711); return err }(), xen.ErrNoDomain, "no such domain"},
		{"reserved number", func() error { _, err := h.Domain(0x7ff4); return err }(), xen.ErrNoDomain, "no such domain"},
		{"name", func() error { _, err := h.DomainByName("no such"); return err }(), xen.ErrNoDomain, `no domain is named "no such"`},
		{"number or name", func() error { _, err := h.LookupDomain("4711"); return err }(), xen.ErrNoDomain, "4711"},
		{"nothing", func() error { _, err := h.LookupDomain(""); return err }(), xen.ErrNoDomain, "no domain is named"},
		{"dom0", func() error { _, err := dom0.OpenMonitor(nil); return err }(), xen.ErrNotSupported, "cannot monitor itself"},
		{"vCPU", func() error { _, err := d.Registers(100); return err }(), syscall.ENOENT, "no such vCPU"},
	} {
		if !errors.Is(tt.err, tt.is) || !strings.Contains(tt.err.Error(), tt.says) || strings.Contains(tt.err.Error(), "\n") {
			t.Errorf("%s: %v", tt.name, tt.err)
		}
	}
}

// Domains that cannot be monitored; paused from the start, they need not boot.
func TestLabUnmonitorable(t *testing.T) {
	h := open(t)
	for _, tt := range []struct{ name, config, says string }{
		{"pv", `type = "pv"`, "PV guests cannot be monitored"},
		{"shadow", "type = \"pvh\"\nhap = 0", "set hap=1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "shadow" {
				caps, err := exec.Command("xl", "info", "virt_caps").Output()
				if err != nil {
					t.Fatal(err)
				}
				// Of Debian's releases 4.14 has it, 4.17 and 4.20 do not.
				if !slices.Contains(strings.Fields(string(caps)), "shadow") {
					t.Skipf("this Xen is built without shadow paging (%s)", strings.TrimSpace(string(caps)))
				}
			}
			name := "xen-" + tt.name
			file := filepath.Join(t.TempDir(), "xl.cfg")
			config := fmt.Sprintf("name = %q\nkernel = %q\nmemory = 128\n%s\n", name,
				filepath.Join(guest.KitDir, guest.KernelFile(guest.DefaultKernel)), tt.config)
			if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("xl", "create", "-q", "-e", "-p", file).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			defer func() {
				if out, err := exec.Command("xl", "destroy", name).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			}()
			d, err := h.DomainByName(name)
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.OpenMonitor(nil)
			if !errors.Is(err, xen.ErrNotSupported) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("OpenMonitor: %v", err)
			} else {
				t.Log(err)
			}
		})
	}
}

func TestLabNoPermission(t *testing.T) {
	cmd := child("open")
	// Its own file must be readable to nobody.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if s := string(out); !strings.Contains(s, "run as root in dom0") || !strings.HasSuffix(s, " true\n") {
		t.Errorf("got %q", s)
	}
}

func TestLabRegisters(t *testing.T) {
	d := lookup(t, sharedGuest(t))
	if err := d.Pause(); err != nil {
		t.Fatal(err)
	}
	defer d.Unpause()
	r, err := d.Registers(0)
	if err != nil {
		t.Fatal(err)
	}
	const (
		kernelHalf  = 1 << 63
		longMode    = 0x500
		pagingOn    = 0x80000001
		reservedOne = 2
	)
	if r.LSTAR&kernelHalf == 0 || r.CR3 == 0 || r.EFER&longMode != longMode || r.CR0&pagingOn != pagingOn ||
		r.RFLAGS&reservedOne == 0 || r.GDTRBase&kernelHalf == 0 || r.CPL() != int(r.CS.Selector)&3 {
		t.Errorf("these are not the registers of a 64-bit Linux: %+v", *r)
	}
	again, err := d.Registers(0)
	if err != nil || *again != *r {
		t.Errorf("a paused vCPU changed: %+v, %v", again, err)
	}
}

func TestLabMapFrames(t *testing.T) {
	d := lookup(t, sharedGuest(t))
	maxGFN, err := d.MaximumGPFN()
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Registers(0)
	if err != nil {
		t.Fatal(err)
	}
	root := xen.GFN(r.CR3 >> xen.PageShift & (1<<40 - 1))
	if root > maxGFN {
		t.Errorf("CR3 is in frame %v, the last is %v", root, maxGFN)
	}
	f, err := d.MapFrames([]xen.GFN{root, maxGFN + 1000, 1, 1 << 36}, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, ok := range []bool{true, false, true, false} {
		b, err := f.Frame(i)
		if (err == nil) != ok || ok && len(b) != xen.PageSize {
			t.Errorf("frame %d: %d bytes, %v", i, len(b), err)
		}
	}
	if b, err := f.Frame(0); err != nil || b[511*8]&1 == 0 {
		t.Errorf("the page-table root does not map the kernel's text (%v)", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.Frame(0); !errors.Is(err, xen.ErrClosed) {
		t.Errorf("Frame after Close: %v", err)
	}
	// A large map of more than one batch, all of it there.
	gfns := make([]xen.GFN, 2000)
	for i := range gfns {
		gfns[i] = 0x1000 + xen.GFN(i)
	}
	if f, err = d.MapFrames(gfns, false); err != nil {
		t.Fatal(err)
	}
	for i := range gfns {
		if _, err := f.Frame(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// Coming and going, with events in the ring that only Close answers, leaves
// the guest running.
func TestLabMonitorComesAndGoes(t *testing.T) {
	g := sharedGuest(t)
	d := lookup(t, g)
	busy := g.Start(t.Context(), "exec workload cr3switch -n 100000000")
	defer g.MustExec(t.Context(), fmt.Sprintf("kill -9 %d", busy.PID()))
	busy.WaitLine(t.Context(), regexp.MustCompile(`cr3switch ready`))
	for i := range 25 {
		m, err := d.OpenMonitor(nil)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if i == 0 {
			c, err := m.Capabilities()
			if err != nil || !c.CtrlReg() || !c.SoftwareBreakpoint() {
				t.Errorf("Capabilities() = %+v, %v", c, err)
			}
			t.Logf("capabilities %#x", c.Raw)
			_, err = d.OpenMonitor(nil)
			if !errors.Is(err, xen.ErrBusy) || !strings.Contains(err.Error(), "another monitor is attached") {
				t.Errorf("second monitor: %v", err)
			}
		}
		if err := errors.Join(m.EnableCtrlReg(xen.CR3, nil), m.EnableSoftwareBreakpoint()); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if i%2 == 1 { // see to it that events are coming
			ctx, cancel := context.WithCancel(t.Context())
			if err := m.Serve(ctx, func(*xen.Request) xen.Response { cancel(); return xen.Response{} }); err != context.Canceled {
				t.Errorf("round %d: Serve: %v", i, err)
			}
		}
		if err := errors.Join(m.Close(), m.Close()); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		g.MustExec(t.Context(), "true")
	}
	if info, err := d.Info(); err != nil || info.Paused {
		t.Errorf("afterwards: %+v, %v", info, err)
	}
}

// Two processes hand a byte to each other n times, so the monitor must see at
// least n switches to either's page tables.
func TestLabCR3(t *testing.T) {
	g := sharedGuest(t)
	d := lookup(t, g)
	const n = 100
	g.MustExec(t.Context(), "rm -f /tmp/go")
	cmd := g.Start(t.Context(), fmt.Sprintf("exec workload cr3switch -n %d -wait /tmp/go", n))
	cmd.WaitLine(t.Context(), regexp.MustCompile(`cr3switch ready`))

	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	roots := map[uint64]int{}
	events, bad := 0, 0
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := m.Serve(ctx, func(r *xen.Request) xen.Response {
			events++
			if r.Reason != xen.ReasonWriteCtrlReg || r.Ctrl.Reg != xen.CR3 || r.Ctrl.Old == r.Ctrl.New ||
				r.Regs.CR3 != r.Ctrl.Old || r.Flags&xen.FlagVCPUPaused == 0 || r.Regs.CPL() != 0 || r.Regs.LSTAR == 0 {
				if bad++; bad == 1 {
					t.Errorf("request %+v", *r)
				}
			}
			roots[r.Ctrl.New&^0x1fff]++ // without PCID and KPTI's bit
			return xen.Response{}
		})
		if err != context.Canceled {
			t.Errorf("Serve: %v", err)
		}
	})
	if err := m.EnableCtrlReg(xen.CR3, nil); err != nil {
		t.Error(err)
	}
	g.MustExec(t.Context(), "touch /tmp/go")
	out, status := cmd.Wait(t.Context())
	cancel()
	wg.Wait()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if status != 0 || !strings.Contains(out, fmt.Sprintf("cr3switch n=%d ", n)) {
		t.Errorf("status %d, output %q", status, out)
	}
	often := 0
	for _, k := range roots {
		if k >= n {
			often++
		}
	}
	t.Logf("%d events, %d page-table roots, %d of them at least %d times", events, len(roots), often, n)
	if often < 2 || bad > 0 {
		t.Errorf("%d roots were switched to at least %d times, want both processes'; %d bad requests", often, n, bad)
	}
}

// Breakpoint instructions of the guest's own are given back: the process gets
// every one of its signals.
func TestLabInjectBreakpoint(t *testing.T) {
	g := sharedGuest(t)
	d := lookup(t, g)
	const n = 100
	g.MustExec(t.Context(), "rm -f /tmp/go")
	cmd := g.Start(t.Context(), fmt.Sprintf("exec workload int3 -n %d -wait /tmp/go", n))
	cmd.WaitLine(t.Context(), regexp.MustCompile(`int3 ready`))
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.EnableSoftwareBreakpoint(); err != nil {
		t.Fatal(err)
	}
	hits := 0
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := m.Serve(ctx, func(r *xen.Request) xen.Response {
			if hits == 0 {
				t.Logf("%+v, RIP %#x, CPL %d", r.Breakpoint, r.Regs.RIP, r.Regs.CPL())
			}
			hits++
			if r.Reason != xen.ReasonSoftwareBreakpoint || r.Regs.CPL() != 3 || r.Breakpoint.InsnLength != 1 || r.Breakpoint.GFN == ^xen.GFN(0) {
				t.Errorf("request %+v", *r)
			}
			if err := d.InjectBreakpoint(r.VCPU, uint8(r.Breakpoint.InsnLength)); err != nil {
				t.Error(err)
			}
			return xen.Response{}
		})
		if err != context.Canceled {
			t.Errorf("Serve: %v", err)
		}
	})
	g.MustExec(t.Context(), "touch /tmp/go")
	out, status := cmd.Wait(t.Context())
	cancel()
	wg.Wait()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if want := fmt.Sprintf("int3 n=%d ", n); status != 0 || !strings.Contains(out, want) {
		t.Errorf("status %d, output %q, want %q", status, out, want)
	}
	if hits != n {
		t.Errorf("%d breakpoints seen, the guest executed %d", hits, n)
	}
}

// A guest that is destroyed under a monitor ends Serve.
func TestLabGuestGone(t *testing.T) {
	g := labtest.StartGuest(t, guest.Spec{MemoryMiB: 128})
	d := lookup(t, g)
	m, err := d.OpenMonitor(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.EnableCtrlReg(xen.CR3, nil); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	served := make(chan struct{})
	serve := make(chan error, 1)
	go func() {
		serve <- m.Serve(t.Context(), func(*xen.Request) xen.Response {
			once.Do(func() { close(served) })
			return xen.Response{}
		})
	}()
	g.MustExec(t.Context(), "true") // forks, so there are CR3 writes
	<-served
	g.Destroy(t.Context())
	if err := <-serve; !errors.Is(err, xen.ErrNoDomain) {
		t.Errorf("Serve: %v", err)
	} else {
		t.Log(err)
	}
	if err := m.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	// The last reference to its memory is gone, and the domain with it.
	if _, err := d.Info(); !errors.Is(err, xen.ErrNoDomain) {
		t.Errorf("Info: %v", err)
	}
}

// A monitor that was killed leaves the ring taken, and the next one says so.
func TestLabMonitorDied(t *testing.T) {
	g := labtest.StartGuest(t, guest.Spec{MemoryMiB: 128})
	d := lookup(t, g)
	out, err := child("monitor", "DOMAIN="+g.Name()).Output()
	if string(out) != "<nil>\n" {
		t.Fatalf("the other monitor: %q, %v", out, err)
	}
	_, err = d.OpenMonitor(nil)
	if !errors.Is(err, xen.ErrBusy) || !strings.Contains(err.Error(), "one died") {
		t.Errorf("OpenMonitor: %v", err)
	}
	g.MustExec(t.Context(), "true") // it had no event enabled, so the guest works on
}
