//go:build lab

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/breakpoint/journal"
	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/internal/mortal"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// traced are functions of the kernel that the load calls all the time.
var traced = []string{"__x64_sys_getppid", "__x64_sys_getuid", "do_syscall_64"}

const load = "exec workload busy -kinds getppid,getuid -spin 10000"

// childVar makes the test binary a monitor, of one of two kinds.
const childVar = "GOVMI_RECOVER_CHILD"

func TestMain(m *testing.M) {
	kinds := map[string]func() error{"tracer": tracer, "stepper": stepper}
	if child := kinds[os.Getenv(childVar)]; child != nil {
		if err := child(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(kind string, env ...string) (cmd *exec.Cmd, out io.Reader, err error) {
	cmd = exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), childVar+"="+kind), env...)
	cmd.Stderr = os.Stderr
	out, err = cmd.StdoutPipe()
	return cmd, out, err
}

// tracer traces all processes of $DOMAIN, as syscalltrace does, until SIGTERM. It
// prints "hits" when some have come.
func tracer() (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := session.Attach(nil, os.Getenv("DOMAIN"))
	defer func() { err = errors.Join(err, s.Close()) }()
	if err != nil {
		return err
	}
	scope, err := s.Scope(cr3filter.Process{}, nil)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.Loop.Run(ctx) }()
	n := 0
	for _, name := range traced {
		va, err := s.Kernel.Symbols().Lookup(name)
		if err == nil {
			_, err = scope.Insert(va, func(*xen.Request, linux.Task) xen.Response {
				if n++; n == 20 {
					fmt.Println("hits")
				}
				return xen.Response{}
			})
		}
		if err != nil {
			cancel()
			return errors.Join(err, <-served)
		}
	}
	if err := scope.Start(); err != nil {
		cancel()
		return errors.Join(err, <-served)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	select {
	case <-term:
	case err = <-served:
		return err
	}
	cancel()
	if err := <-served; !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// victim is a guest at work and what it was like before.
type victim struct {
	*labtest.Guest
	t      *testing.T
	dom    *xen.Domain
	busy   *labtest.Command
	before xen.DomainInfo
	left   struct{ rings, bytes, views, pages int } // how often
}

func newVictim(t *testing.T, spec guest.Spec) *victim {
	g := labtest.SharedGuest(t, spec)
	labtest.Intact(t, g)
	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	v := &victim{Guest: g, t: t}
	if v.dom, err = h.LookupDomain(g.Name()); err != nil {
		t.Fatal(err)
	}
	v.busy = g.Start(t.Context(), load)
	// The first monitor takes the ring's page from the guest, for good.
	m, err := v.dom.OpenMonitor(nil)
	if err == nil {
		err = m.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	v.before = v.info()
	return v
}

// info is the domain's state without the ring's page, which a monitor that was
// killed while it attached leaves to the guest, and the next one takes.
func (v *victim) info() xen.DomainInfo {
	v.t.Helper()
	info, err := v.dom.Info()
	if err != nil {
		v.t.Fatal(err)
	}
	gfn, err := v.dom.HVMParam(xen.ParamMonitorRingPFN)
	if err != nil {
		v.t.Fatal(err)
	}
	f, err := v.dom.MapFrames([]xen.GFN{xen.GFN(gfn)}, false)
	if err != nil {
		v.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Frame(0); err == nil {
		info.Pages--
	}
	return info
}

// recover runs the program and checks that the guest is as before, in what does
// not take long to see.
func (v *victim) recover(what string) {
	v.t.Helper()
	var out, msg bytes.Buffer
	if status := run(nil, []string{"-domain", v.Name()}, &out, &msg); status != 0 {
		v.t.Fatalf("%s: recover: status %d: %s%s", what, status, out.String(), msg.String())
	}
	for re, n := range map[string]*int{
		`ring is gone`: &v.left.rings, `bytes put back`: &v.left.bytes, `altp2m is off`: &v.left.views, `pages taken back`: &v.left.pages,
	} {
		if regexp.MustCompile(re).MatchString(out.String()) {
			*n++
		}
	}
	if strings.Contains(out.String(), "left") {
		v.t.Errorf("%s: recover left something: %s", what, out.String())
	}
	info := v.info()
	if info.Pages != v.before.Pages || info.MaxPages != v.before.MaxPages || info.Paused {
		v.t.Errorf("%s: %d pages of %d, paused %v; before %d of %d; recover said: %s",
			what, info.Pages, info.MaxPages, info.Paused, v.before.Pages, v.before.MaxPages, out.String())
	}
	if on, err := v.dom.AltP2M(); err == nil && on {
		v.t.Errorf("%s: altp2m is on", what)
	}
	if state, err := v.dom.MonitorState(); err != nil || state != xen.MonitorFree {
		v.t.Errorf("%s: the monitor's ring is %v, %v", what, state, err)
	}
	v.MustExec(v.t.Context(), "true")
}

// end checks that the load has computed right all the time.
func (v *victim) end() {
	v.t.Helper()
	v.MustExec(v.t.Context(), fmt.Sprintf("kill -TERM %d", v.busy.PID()))
	out, status := v.busy.Wait(v.t.Context())
	m := regexp.MustCompile(`busy end pid=\d+ rounds=(\d+) sum=([0-9a-f]+)`).FindStringSubmatch(out)
	if status != 0 || m == nil {
		v.t.Fatalf("the load ended with status %d: %s", status, out)
	}
	rounds, err := strconv.Atoi(m[1])
	if err != nil {
		v.t.Fatal(err)
	}
	sum := uint64(1)
	for range rounds * 10000 {
		sum = sum*6364136223846793005 + 1442695040888963407
	}
	if want := fmt.Sprintf("%x", sum); m[2] != want || rounds == 0 {
		v.t.Errorf("the load computed %s in %d rounds, want %s", m[2], rounds, want)
	}
}

// A tracer is killed at a random moment, attaching, arming or tracing, time and
// again. Recovered, the guest works and is as it was, and has its memory.
func TestLabKilled(t *testing.T) {
	spec := labtest.Ordinary()
	if n := hostCPUs(t); n > 1 {
		spec.VCPUs = 2
	}
	v := newVictim(t, spec)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	start := func() (*exec.Cmd, *bufio.Reader) {
		cmd, out, err := child("tracer", "DOMAIN="+v.Name())
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		return cmd, bufio.NewReader(out)
	}
	// How long it takes to the first hits.
	began := time.Now()
	cmd, out := start()
	if line, err := out.ReadString('\n'); err != nil || line != "hits\n" {
		t.Fatalf("the tracer says %q, %v", line, err)
	}
	attaching := time.Since(began)
	if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	rounds := labtest.Count(50)
	for i := range rounds {
		cmd, out := start()
		what := fmt.Sprintf("kill %d", i)
		if i%2 == 0 { // while it traces
			if line, err := out.ReadString('\n'); err != nil || line != "hits\n" {
				t.Fatalf("%s: the tracer says %q, %v", what, line, err)
			}
			time.Sleep(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
		} else {
			time.Sleep(time.Duration(random.Int64N(int64(attaching + attaching/4))))
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Errorf("%s: it had ended", what)
		}
		if i == 0 { // the next tracer says what to do
			s, err := session.Attach(nil, v.Name())
			if err == nil || !strings.Contains(err.Error(), `run "recover -domain `+v.Name()) && !strings.Contains(err.Error(), "end it") {
				t.Errorf("the next tracer: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		v.recover(what)
	}
	v.end()
	t.Logf("%d kills: %d rings, %d times bytes, %d times views, %d times pages were left", rounds, v.left.rings, v.left.bytes, v.left.views, v.left.pages)
	if v.left.rings == 0 || v.left.bytes+v.left.pages == 0 {
		t.Error("no kill left anything")
	}
}

// stepper is a monitor that attaches to $DOMAIN, arms breakpoints at the addresses
// $AT in the kernel whose root is $ROOT, sees some hits, disarms and detaches, and
// is killed at its $CALL'th call of the hypervisor, before or $AFTER it. It prints
// how many calls it made if it comes to its end.
func stepper() (err error) {
	devices := mortal.New(device.Kernel{}, func() {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	})
	n, err := strconv.Atoi(os.Getenv("CALL"))
	if err != nil {
		return err
	}
	devices.DieAt(n, os.Getenv("AFTER") == "true")
	root, err := strconv.ParseUint(os.Getenv("ROOT"), 0, 64)
	if err != nil {
		return err
	}
	h, err := xen.Open(&xen.Options{Devices: devices})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()); fmt.Println("calls", devices.Calls()) }()
	d, err := h.LookupDomain(os.Getenv("DOMAIN"))
	if err != nil {
		return err
	}
	mon, err := d.OpenMonitor(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mon.Close()) }()
	j, err := journal.Open(d, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mon.Close(), j.Close()) }()
	frames := vmi.MapperFunc(d.MapFrames)
	mem := vmi.NewMemory(frames, nil)
	defer func() { err = errors.Join(err, mem.Close()) }()
	loop := vmi.NewLoop(mon)
	engine := breakpoint.New(frames, j.Domain())
	if labtest.VMX() {
		views, err := breakpoint.OpenViews(j.Domain(), frames, nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, views.Close()) }()
		if engine, err = views.NewEngine(j.Domain()); err != nil {
			return err
		}
		err = errors.Join(mon.EnableSingleStep(), loop.OnMemAccess(views.HandleMemAccess), loop.OnSingleStep(views.HandleSingleStep))
		if err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := errors.Join(loop.OnSoftwareBreakpoint(engine.Handle), mon.EnableSoftwareBreakpoint()); err != nil {
		return err
	}
	served := make(chan error, 1)
	hits := 0
	go func() { served <- loop.Run(ctx) }()
	for at := range strings.FieldsSeq(os.Getenv("AT")) {
		va, err := strconv.ParseUint(at, 0, 64)
		if err != nil {
			return err
		}
		_, err = engine.Insert(mem.AddressSpace(vmi.CR3(root)), vmi.VirtAddr(va), func(*xen.Request) xen.Response {
			if hits++; hits == 5 {
				cancel()
			}
			return xen.Response{}
		})
		if err != nil {
			cancel()
			return errors.Join(err, <-served)
		}
	}
	if engine.View() != 0 {
		if err := d.SwitchView(engine.View()); err != nil {
			cancel()
			return errors.Join(err, <-served)
		}
	}
	if err := <-served; !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// A monitor is killed before and after each of its calls of the hypervisor, and
// the guest recovered; in short, at a tenth of them.
func TestLabKilledAtEachCall(t *testing.T) {
	v := newVictim(t, labtest.Ordinary())
	env := v.kernel()
	step := 1
	if !labtest.Soak() {
		step = 10
	}
	killed := 0
	for n := 1; ; n += step {
		for _, after := range []bool{false, true} {
			cmd, out, err := child("stepper", append(env, fmt.Sprintf("CALL=%d", n), fmt.Sprintf("AFTER=%v", after))...)
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			said, _ := io.ReadAll(out)
			err = cmd.Wait()
			what := fmt.Sprintf("call %d, after %v", n, after)
			if err == nil { // it came to its end before
				if killed < 4 {
					t.Errorf("%d kills only; %q", killed, said)
				}
				v.recover(what)
				v.end()
				t.Logf("%d kills, the monitor's %q: %d rings, %d times bytes, %d times views, %d times pages were left",
					killed, said, v.left.rings, v.left.bytes, v.left.views, v.left.pages)
				return
			}
			if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
				t.Fatalf("%s: %v: %s", what, err, said)
			}
			killed++
			v.recover(what)
		}
	}
}

// kernel is what stepper has to know of the guest's kernel.
func (v *victim) kernel() (env []string) {
	v.t.Helper()
	regs, err := v.dom.AllRegisters()
	if err != nil {
		v.t.Fatal(err)
	}
	mem := vmi.NewMemory(vmi.MapperFunc(v.dom.MapFrames), nil)
	defer mem.Close()
	k, err := linux.Open(mem, regs)
	if err != nil {
		v.t.Fatal(err)
	}
	var at []string
	for _, name := range traced {
		va, err := k.Symbols().Lookup(name)
		if err != nil {
			v.t.Fatal(err)
		}
		at = append(at, fmt.Sprintf("%#x", uint64(va)))
	}
	return []string{"DOMAIN=" + v.Name(), "AT=" + strings.Join(at, " "), fmt.Sprintf("ROOT=%#x", uint64(k.AddressSpace().Root()))}
}

// hostCPUs is the number of physical CPUs that Xen has.
func hostCPUs(t *testing.T) int {
	out, err := exec.Command("xl", "info", "nr_cpus").Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
