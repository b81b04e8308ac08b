package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// memoryMiB is the guest's memory: the paper's guest had 256 MB.
const memoryMiB = 256

// target is the guest that is measured, with what all methods need to know of
// it. It lives for all runs, so that no run pays for reading symbols and types.
type target struct {
	guest  *guest.Guest
	hyp    *xen.Hypervisor
	dom    *xen.Domain
	mem    *vmi.Memory
	kernel *linux.Kernel
	// text is the digest of the kernel's text before anything was attached.
	text string
}

func newTarget(ctx context.Context) (t *target, err error) {
	t = new(target)
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	t.guest, err = guest.Start(ctx, guest.Spec{Name: "table1", Image: guest.ImageCompiler, MemoryMiB: memoryMiB, AltP2M: true})
	if err != nil {
		return t, err
	}
	if t.hyp, err = xen.Open(nil); err != nil {
		return t, err
	}
	if t.dom, err = t.hyp.Domain(t.guest.DomID()); err != nil {
		return t, err
	}
	regs, err := t.dom.AllRegisters()
	if err != nil {
		return t, err
	}
	t.mem = vmi.NewMemory(vmi.MapperFunc(t.dom.MapFrames), nil)
	if t.kernel, err = linux.Open(t.mem, regs); err != nil {
		return t, err
	}
	t.text, err = t.digest(ctx)
	return t, err
}

// digest asks the guest for that of its kernel's text.
func (t *target) digest(ctx context.Context) (string, error) {
	out, status, err := t.guest.Exec(ctx, "workload textsum")
	if err != nil {
		return "", err
	}
	if status != 0 {
		return "", fmt.Errorf("textsum: status %d: %s", status, out)
	}
	return strings.TrimSpace(out), nil
}

var errNotIntact = errors.New("the guest's kernel text is not as it was")

// intact checks, with nothing attached, that the kernel is as it was.
func (t *target) intact(ctx context.Context) error {
	now, err := t.digest(ctx)
	if err != nil {
		return err
	}
	if now != t.text {
		return fmt.Errorf("%w: %s, before %s", errNotIntact, now, t.text)
	}
	return nil
}

// Close destroys the guest.
func (t *target) Close() error {
	var errs []error
	if t.mem != nil {
		errs = append(errs, t.mem.Close())
	}
	if t.hyp != nil {
		errs = append(errs, t.hyp.Close())
	}
	if t.guest != nil {
		errs = append(errs, t.guest.Destroy(context.Background()))
	}
	return errors.Join(errs...)
}
