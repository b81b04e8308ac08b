package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/govmi/govmi/xen"
)

const (
	consoleDir = "/var/log/xen"
	stateDir   = "/run/govmi/guests"
	// poll is how often the console is looked at. Under an emulator the guest
	// may share one CPU with dom0.
	poll = 50 * time.Millisecond
	// slowPoll is how often in the end.
	slowPoll = 500 * time.Millisecond
	// endPoll is how often who waits for a guest asks whether it still runs.
	endPoll = 2 * time.Second
)

// Errors of running guests; what comes with them holds the console's tail.
var (
	// ErrPanic reports a kernel panic on the guest's console.
	ErrPanic = errors.New("guest: kernel panic")
	// ErrGone reports a guest that no longer runs.
	ErrGone = errors.New("guest: gone")
)

// Guest is a running guest of the lab, seen from dom0. It is safe for
// concurrent use; commands given at the same time run one after the other
// unless they were started with [Guest.Start].
type Guest struct {
	spec    Spec
	id      xen.DomID
	tty     string
	console *Console

	input sync.Mutex // one command line at a time
}

// Create makes a guest of the kit and leaves it paused. The caller destroys it.
func Create(ctx context.Context, spec Spec) (_ *Guest, err error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	spec = spec.withDefaults()
	dir, err := os.MkdirTemp("", "guest-")
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if _, err := os.Stat(filepath.Join(KitDir, InitrdFile(spec.Image))); err != nil && spec.Image != "" {
		return nil, fmt.Errorf("guest: boot the lab with -guest-image %s: %w", spec.Image, err)
	}
	if _, err := os.Stat(DeviceModel); err != nil && spec.HVM {
		return nil, fmt.Errorf("guest: boot the lab with -device-model: %w", err)
	}
	kernel := filepath.Join(KitDir, KernelFile(spec.Kernel))
	if spec.bootLoader() {
		kernel = filepath.Join(dir, "kernel.bin")
		if err := writeKASLR(kernel, spec); err != nil {
			return nil, err
		}
	}
	ramdisk := filepath.Join(KitDir, InitrdFile(spec.Image))
	if len(spec.Files) > 0 {
		if ramdisk, err = withFiles(dir, ramdisk, spec.Files); err != nil {
			return nil, err
		}
	}
	config, err := spec.XLConfig(kernel, ramdisk)
	if err != nil {
		return nil, err
	}
	configFile := filepath.Join(dir, "xl.cfg")
	if err := os.WriteFile(configFile, []byte(config), 0o644); err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	// The console daemon appends; what an earlier guest of this name said is
	// not this one's.
	if err := os.Remove(logFile(spec.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("guest: %w", err)
	}
	args := []string{"create", "-q", "-p"}
	if !spec.Restarts {
		args = append(args, "-e") // no process that waits for the guest's end; the lab destroys it
	}
	if out, err := xl(ctx, append(args, configFile)...); err != nil {
		return nil, fmt.Errorf("guest: create %s: %w: %s%s", spec.Name, err, out, deviceModelSays(spec))
	}
	g, err := open(ctx, spec)
	if err != nil {
		return nil, errors.Join(err, destroy(ctx, spec.Name))
	}
	return g, nil
}

// deviceModelSays is what an HVM guest's device model has complained of.
func deviceModelSays(spec Spec) string {
	b, err := os.ReadFile(filepath.Join(consoleDir, "qemu-dm-"+spec.Name+".log"))
	if err != nil {
		return ""
	}
	const most = 2000
	return "\ndevice model: " + string(b[max(0, len(b)-most):])
}

func writeKASLR(name string, spec Spec) error {
	image, err := os.ReadFile(filepath.Join(KitDir, KASLRFile(spec.Kernel)))
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	if image, err = fillCmdline(image, spec.kernelArgs()); err != nil {
		return err
	}
	if err := os.WriteFile(name, image, 0o644); err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	return nil
}

// Start makes a guest, waits until it is ready and starts the commands of
// [Spec.Run]. The caller destroys it.
func Start(ctx context.Context, spec Spec) (*Guest, error) {
	g, err := Create(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := g.boot(ctx); err != nil {
		// The undo must work after ctx's end, too.
		return nil, errors.Join(err, g.Destroy(context.WithoutCancel(ctx)))
	}
	return g, nil
}

func (g *Guest) boot(ctx context.Context) error {
	if err := g.Unpause(ctx); err != nil {
		return err
	}
	if err := g.WaitReady(ctx); err != nil {
		return err
	}
	for _, command := range g.spec.Run {
		if _, err := g.Start(ctx, command); err != nil {
			return err
		}
	}
	return nil
}

// Open finds a guest that is there already, by its name. Its console begins
// with the guest's beginning.
func Open(ctx context.Context, name string) (*Guest, error) {
	return open(ctx, Spec{Name: name})
}

func open(ctx context.Context, spec Spec) (*Guest, error) {
	out, err := xl(ctx, "domid", spec.Name)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w: %s", ErrGone, spec.Name, err, out)
	}
	id, err := strconv.ParseUint(strings.TrimSpace(out), 10, 15)
	if err != nil {
		return nil, fmt.Errorf("guest: id of %s: %w", spec.Name, err)
	}
	g := &Guest{spec: spec, id: xen.DomID(id)}
	g.console = &Console{file: logFile(spec.Name), ended: g.ended}
	// The console daemon takes a moment to make the terminal, and a domain that is
	// being destroyed has none any more.
	for g.tty == "" {
		tty, err := exec.CommandContext(ctx, "xenstore-read", fmt.Sprintf("/local/domain/%d/console/tty", id)).Output()
		if err == nil {
			g.tty = strings.TrimSpace(string(tty))
			continue
		}
		if err := g.ended(); err != nil {
			return nil, err
		}
		if err := sleep(ctx, poll); err != nil {
			return nil, fmt.Errorf("guest: console of %s: %w", spec.Name, err)
		}
	}
	return g, nil
}

// Name is the domain's name.
func (g *Guest) Name() string { return g.spec.Name }

// DomID is the domain's number.
func (g *Guest) DomID() xen.DomID { return g.id }

// Console is everything that the guest has printed.
func (g *Guest) Console() *Console { return g.console }

// Unpause lets a guest of [Create] run.
func (g *Guest) Unpause(ctx context.Context) error { return g.xl(ctx, "unpause") }

// Pause stops the guest's vCPUs.
func (g *Guest) Pause(ctx context.Context) error { return g.xl(ctx, "pause") }

func (g *Guest) xl(ctx context.Context, command string) error {
	if out, err := xl(ctx, command, fmt.Sprint(g.id)); err != nil {
		return fmt.Errorf("guest: %s %s: %w: %s", command, g.spec.Name, err, out)
	}
	return nil
}

// WaitReady waits until the guest takes commands.
func (g *Guest) WaitReady(ctx context.Context) error {
	_, err := g.console.Wait(ctx, readyLine)
	if err != nil {
		return fmt.Errorf("guest: %s does not come up: %w", g.spec.Name, err)
	}
	return nil
}

// ended tells why the guest does not run any more, if it does not.
func (g *Guest) ended() error {
	h, err := xen.Open(nil)
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	defer h.Close()
	d, err := h.Domain(g.id)
	if errors.Is(err, xen.ErrNoDomain) {
		return fmt.Errorf("%w: %s: %w", ErrGone, g.spec.Name, err)
	}
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	info, err := d.Info()
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	if info.Shutdown {
		return fmt.Errorf("%w: %s has stopped, with Xen's reason %d (3: a crash; Xen's console says of what)", ErrGone, g.spec.Name, info.ShutdownReason)
	}
	return nil
}

// Alive reports whether the domain still exists.
func (g *Guest) Alive(ctx context.Context) bool {
	out, err := xl(ctx, "domid", g.spec.Name)
	return err == nil && strings.TrimSpace(out) == fmt.Sprint(g.id)
}

// Destroy ends the guest. It is idempotent.
func (g *Guest) Destroy(ctx context.Context) error {
	if !g.Alive(ctx) {
		return nil
	}
	return destroy(ctx, fmt.Sprint(g.id))
}

func destroy(ctx context.Context, domain string) error {
	if out, err := xl(ctx, "destroy", domain); err != nil {
		return fmt.Errorf("guest: destroy %s: %w: %s", domain, err, out)
	}
	return nil
}

func logFile(name string) string { return filepath.Join(consoleDir, "guest-"+name+".log") }

// xl runs the toolstack; its error stream is in the returned text only if it
// failed.
func xl(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "xl", args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return strings.TrimSpace(stdout.String() + stderr.String()), err
	}
	return stdout.String(), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
