//go:build lab

package breakpoint_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// getppid is a system call's function whose callers the tests know.
const getppid = "__x64_sys_getppid"

// target is a guest whose kernel is known.
type target struct {
	hyp    *xen.Hypervisor
	dom    *xen.Domain
	mem    *vmi.Memory
	kernel *linux.Kernel
}

func openTarget(domain string) (g *target, err error) {
	g = &target{}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Close())
		}
	}()
	if g.hyp, err = xen.Open(nil); err != nil {
		return g, err
	}
	if g.dom, err = g.hyp.LookupDomain(domain); err != nil {
		return g, err
	}
	regs, err := g.dom.AllRegisters()
	if err != nil {
		return g, err
	}
	g.mem = vmi.NewMemory(vmi.MapperFunc(g.dom.MapFrames), nil)
	g.kernel, err = linux.Open(g.mem, regs)
	return g, err
}

func (g *target) Close() error {
	var errs []error
	if g.mem != nil {
		errs = append(errs, g.mem.Close())
	}
	if g.hyp != nil {
		errs = append(errs, g.hyp.Close())
	}
	return errors.Join(errs...)
}

// session is a monitor with breakpoints on a guest.
type session struct {
	*target
	own    bool // the target is the session's
	mon    *xen.Monitor
	engine *breakpoint.Engine
	loop   *vmi.Loop
	// answerAccess, if set, may answer accesses to memory in the engine's place.
	answerAccess func(r *xen.Request) (xen.Response, bool)
}

// Serve is the monitor's, with answerAccess.
func (s *session) Serve(ctx context.Context, h xen.Handler) error {
	return s.mon.Serve(ctx, func(r *xen.Request) xen.Response {
		if r.Reason == xen.ReasonMemAccess && s.answerAccess != nil {
			if resp, ok := s.answerAccess(r); ok {
				return resp
			}
		}
		return h(r)
	})
}

// attach has its breakpoints in the guest's own frames.
func attach(domain string) (*session, error) {
	g, err := openTarget(domain)
	if err != nil {
		return nil, err
	}
	s, err := g.attach(breakpoint.PatchedByte)
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	s.own = true
	return s, nil
}

func (g *target) attach(how breakpoint.Strategy) (s *session, err error) {
	s = &session{target: g}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.mon, err = s.dom.OpenMonitor(nil); err != nil {
		return s, err
	}
	s.loop = vmi.NewLoop(s)
	s.engine, err = breakpoint.Open(breakpoint.Guest{
		Domain: s.dom, Monitor: s.mon, Frames: vmi.MapperFunc(s.dom.MapFrames), Loop: s.loop,
	}, &breakpoint.Options{Strategy: how})
	return s, err
}

// serve has the loop run until stop, which is idempotent.
func (s *session) serve(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.loop.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("loop: %v", err)
		}
	})
}

func (s *session) insert(symbol string, h breakpoint.Handler) error {
	va, err := s.kernel.Symbols().Lookup(symbol)
	if err != nil {
		return err
	}
	_, err = s.engine.Insert(s.kernel.AddressSpace(), va, h)
	return err
}

// Close restores the guest first, then detaches.
func (s *session) Close() error {
	var errs []error
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	if s.mon != nil {
		errs = append(errs, s.mon.Close())
	}
	if s.own {
		errs = append(errs, s.target.Close())
	}
	return errors.Join(errs...)
}

// A process makes exactly n calls while others are busy; the breakpoint counts
// exactly n hits of it, on one vCPU and on two between which it moves.
func TestLabExactHits(t *testing.T) {
	for _, tc := range []struct {
		name    string
		vcpus   int
		migrate string
		n       int
	}{
		{"1 vCPU", 1, "", labtest.Count(10000)},
		{"2 vCPUs", 2, "-migrate", labtest.Count(10000)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if n := hostCPUs(t); tc.vcpus > n {
				t.Skipf("%d vCPUs on %d physical CPU: the VMX lane's emulator runs guests of one vCPU only", tc.vcpus, n)
			}
			ctx := t.Context()
			spec := labtest.Ordinary()
			spec.VCPUs = tc.vcpus
			g := labtest.SharedGuest(t, spec)
			labtest.Intact(t, g)
			calls := g.Start(ctx, fmt.Sprintf("rm -f /tmp/go; exec workload calls -kind getppid -n %d %s -wait /tmp/go", tc.n, tc.migrate))
			m := calls.WaitLine(ctx, regexp.MustCompile(`calls ready pid=(\d+) `))
			pid, _ := strconv.Atoi(m[1])
			busy := g.Start(ctx, "exec workload busy -kinds getuid,getppid -spin 100000")

			s, err := attach(g.Name())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var mine, others, bad int
			err = s.insert(getppid, func(r *xen.Request) xen.Response {
				task, err := s.kernel.CurrentTask(&r.Regs)
				if err != nil {
					bad++
					return xen.Response{}
				}
				switch tgid, err := task.TGID(); {
				case err != nil:
					bad++
				case int(tgid) == pid:
					mine++
				default:
					others++
				}
				return xen.Response{}
			})
			if err != nil {
				t.Fatal(err)
			}
			loop, stop := context.WithCancel(ctx)
			defer stop()
			done := make(chan error, 1)
			go func() { done <- s.loop.Run(loop) }()

			g.MustExec(ctx, "touch /tmp/go")
			out, status := calls.Wait(ctx)
			if want := fmt.Sprintf("calls kind=getppid n=%d pid=%d", tc.n, pid); status != 0 || !strings.Contains(out, want) {
				t.Errorf("the guest says, with status %d: %q; want %q", status, out, want)
			}
			g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
			if out, status := busy.Wait(ctx); status != 0 {
				t.Errorf("the busy neighbour ended with status %d: %s", status, out)
			} else if m := regexp.MustCompile(`busy kind=getppid n=(\d+)`).FindStringSubmatch(out); m == nil {
				t.Errorf("the busy neighbour says %q", out)
			} else if before, err := strconv.Atoi(m[1]); err != nil || others > before {
				t.Errorf("%d hits of the neighbour, which made %s calls", others, m[1])
			}
			stop()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("loop: %v", err)
			}
			stats := s.engine.Stats()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if mine != tc.n || others == 0 || bad != 0 {
				t.Errorf("%d hits, want %d; %d of others, %d not attributed; %+v", mine, tc.n, others, bad, stats)
			}
			t.Logf("%d hits of the process, %d of its neighbour, %+v", mine, others, stats)
		})
	}
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

// Every way out of a monitor leaves the kernel's text as it was and a guest
// that works.
func TestLabWaysOut(t *testing.T) {
	for _, tc := range []struct {
		name   string
		signal os.Signal // sent when hits are coming in
		want   int       // exit status
	}{
		{"return", nil, 0},
		{"error", nil, 1},
		{"panic", nil, 2},
		{"SIGINT", syscall.SIGINT, 0},
		{"SIGTERM", syscall.SIGTERM, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if labtest.VMX() && !labtest.Soak() && tc.signal == nil && tc.want != 2 {
				t.Skip("for the time it takes: the SVM lane has it, and soak")
			}
			ctx := t.Context()
			g := labtest.SharedGuest(t, labtest.Ordinary())
			labtest.Intact(t, g)
			busy := g.Start(ctx, "exec workload busy -kinds getppid")
			status, out := runTool(t, tc.name, g.Name(), tc.signal)
			if status != tc.want {
				t.Errorf("exit status %d, want %d:\n%s", status, tc.want, out)
			}
			g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
			if _, status := busy.Wait(ctx); status != 0 {
				t.Errorf("the guest's process ended with status %d", status)
			}
		})
	}
}

// A guest that goes away ends the loop with ErrNoDomain, and everything is
// closed without complaint.
func TestLabGuestGone(t *testing.T) {
	ctx := t.Context()
	g := labtest.StartGuest(t, guest.Spec{Run: []string{"workload busy -kinds getppid"}})
	s, err := attach(g.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	hits := make(chan struct{}, 1)
	if err := s.insert(getppid, func(*xen.Request) xen.Response {
		select {
		case hits <- struct{}{}:
		default:
		}
		return xen.Response{}
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.loop.Run(ctx) }()
	<-hits
	g.Destroy(ctx)
	if err := <-done; !errors.Is(err, xen.ErrNoDomain) {
		t.Errorf("loop: %v, want %v", err, xen.ErrNoDomain)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// toolVar makes the test binary a monitor that ends as the variable says.
const toolVar = "GOVMI_BREAKPOINT_TOOL"

func TestMain(m *testing.M) {
	if way := os.Getenv(toolVar); way != "" {
		if err := tool(way, os.Args[len(os.Args)-1]); err != nil {
			fmt.Println("tool:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runTool runs the tool until it ends, sending it sig once hits come in.
func runTool(t *testing.T, way, domain string, sig os.Signal) (status int, out string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", domain)
	cmd.Env = append(os.Environ(), toolVar+"="+way)
	var b strings.Builder
	cmd.Stderr = &b
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	signalled := false
	buf := make([]byte, 1024)
	for {
		n, err := pipe.Read(buf)
		b.Write(buf[:n])
		if sig != nil && !signalled && strings.Contains(b.String(), "hits") {
			signalled = true
			if err := cmd.Process.Signal(sig); err != nil {
				t.Error(err)
			}
		}
		if err != nil {
			break
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), b.String()
}

var errEnough = errors.New("enough hits")

func tool(way, domain string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := attach(domain)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var n atomic.Int32
	err = s.insert(getppid, func(*xen.Request) xen.Response {
		if n.Add(1) == 100 {
			fmt.Println("hits")
			switch way {
			case "return":
				cancel(nil)
			case "error":
				cancel(errEnough)
			case "panic":
				panic("a handler's bug")
			}
		}
		return xen.Response{}
	})
	if err != nil {
		return err
	}
	err = s.loop.Run(ctx)
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errEnough):
		return cause
	case ctx.Err() != nil:
		return nil
	}
	return err
}
