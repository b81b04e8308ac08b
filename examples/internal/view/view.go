// Package view is what the examples that look at a guest have in common: a
// Linux guest, live or from a file, opened for reading, and lists printed as
// people or programs read them.
package view

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// Tool is a program that prints something of a guest and ends.
type Tool struct {
	Name string
	// About says in a sentence what it prints.
	About string
	// Flags, if not nil, adds flags to those of all tools.
	Flags func(f *flag.FlagSet)
	// Run prints.
	Run func(g *Guest) error
	// AnyGuest is for a tool that serves without a Linux kernel that can be read, as
	// one without BTF.
	AnyGuest bool
}

// Guest is a guest opened for reading.
type Guest struct {
	// Kernel is nil, and NoKernel tells why, only if the tool serves for any guest.
	Kernel   *linux.Kernel
	NoKernel error
	Memory   *vmi.Memory
	// Source is where Memory's frames come from, LastGFN the highest of them,
	// Registers are the vCPUs'.
	Source    vmi.FrameMapper
	LastGFN   xen.GFN
	Registers []xen.Registers
	Out       io.Writer
	JSON      bool
	// Notes is for what a person is to know besides.
	Notes io.Writer

	any      bool // Kernel may be nil
	recorder *vmi.Recorder
	close    []func() error
}

type options struct {
	domain, image, record string
	json, running         bool
}

// Main runs the tool and exits.
func (t Tool) Main() {
	session.Main(func(ctx context.Context, args []string) int { return t.Status(ctx, args, os.Stdout, os.Stderr) })
}

// Status runs the tool and returns its exit status: 2 for a wrong command line,
// 1 for another error.
func (t Tool) Status(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := t.parse(args, stderr)
	if err == nil {
		err = t.run(ctx, o, stdout, stderr)
	}
	return session.Status(t.Name, err, stderr)
}

const usage = `usage: %s -domain NAME|ID | -image FILE

%s The guest is live, as root in dom0, or in a file:
a recording, a dump by xl dump-core.

`

func (t Tool) parse(args []string, stderr io.Writer) (o options, err error) {
	f := session.NewCommand(t.Name, fmt.Sprintf(usage, t.Name, t.About), stderr)
	f.StringVar(&o.domain, "domain", "", "the guest, by `name or id`")
	f.StringVar(&o.image, "image", "", "the `file` with the guest's memory")
	f.BoolVar(&o.json, "json", false, "print JSON, an object a line")
	f.BoolVar(&o.running, "running", false, "do not pause the guest meanwhile: what changes may be missed or be an error")
	f.StringVar(&o.record, "record", "", "write a recording of the pages that were read to this `file`")
	if t.Flags != nil {
		t.Flags(f.FlagSet)
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if (o.domain == "") == (o.image == "") {
		return o, f.Refuse("one of -domain and -image is needed")
	}
	return o, nil
}

func (t Tool) run(ctx context.Context, o options, out, notes io.Writer) (err error) {
	g := &Guest{Out: out, JSON: o.json, Notes: notes, any: t.AnyGuest}
	defer func() { err = errors.Join(err, g.Close()) }()
	if o.image != "" {
		err = g.openFile(o)
	} else {
		err = g.openDomain(ctx, o)
	}
	if err != nil {
		return err
	}
	if err := session.Guarded(func() error { return t.Run(g) }); err != nil {
		return err
	}
	return g.record(o)
}

// Open opens a recording or a dump besides the guest that a tool runs on. The
// caller closes it.
func Open(name string) (*Guest, error) {
	g := new(Guest)
	if err := g.openFile(options{image: name}); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// openFile opens a recording, a dump or an image.
func (g *Guest) openFile(o options) error {
	name := o.image
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	g.close = append(g.close, f.Close)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s, err := vmi.OpenSnapshot(f, info.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	g.Source, g.Registers = s, s.Registers()
	for g.LastGFN = range s.GFNs() {
	}
	if err := g.openKernel(o); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// openDomain opens a live domain, and pauses it once its kernel is found: that
// takes most of the time.
func (g *Guest) openDomain(ctx context.Context, o options) error {
	h, err := xen.Open(nil)
	if err != nil {
		return err
	}
	g.close = append(g.close, h.Close)
	d, err := h.LookupDomain(o.domain)
	if err != nil {
		return err
	}
	g.Source = interruptible{ctx, vmi.MapperFunc(d.MapFrames)}
	if g.LastGFN, err = d.MaximumGPFN(); err != nil {
		return err
	}
	if g.Registers, err = d.AllRegisters(); err != nil {
		return err
	}
	if err := g.openKernel(o); err != nil {
		return fmt.Errorf("domain %s: %w", o.domain, err)
	}
	if o.running {
		return nil
	}
	if err := d.Pause(); err != nil {
		return err
	}
	g.close = append(g.close, d.Unpause)
	if g.Registers, err = d.AllRegisters(); err != nil {
		return err
	}
	// What the guest gave away before it was paused.
	return g.Memory.Invalidate()
}

func (g *Guest) openKernel(o options) error {
	if o.record != "" {
		g.recorder = vmi.NewRecorder(g.Source)
		g.Memory = vmi.NewMemory(g.recorder, &vmi.MemoryOptions{Batch: 1})
	} else {
		g.Memory = vmi.NewMemory(g.Source, nil)
	}
	g.close = append(g.close, g.Memory.Close)
	k, err := linux.Open(g.Memory, g.Registers)
	switch {
	case err == nil:
		g.Kernel = k
	case g.any:
		g.NoKernel, err = err, nil
	case errors.Is(err, linux.ErrNoBTF), errors.Is(err, linux.ErrNoKallsyms), errors.Is(err, linux.ErrNoRegisters):
		err = fmt.Errorf("%w; memdump needs none of that", err)
	}
	return err
}

// record writes the recording that was asked for, if any.
func (g *Guest) record(o options) (err error) {
	if g.recorder == nil {
		return nil
	}
	f, err := os.Create(o.record)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	comment := fmt.Sprintf("guest %s%s", o.domain, o.image)
	if g.Kernel != nil {
		comment += ", Linux " + g.Kernel.Release()
	}
	return g.recorder.Save(f, vmi.RecordingInfo{Comment: comment, Registers: g.Registers})
}

// Close lets the guest go on and releases it. It is idempotent.
func (g *Guest) Close() error {
	var err error
	for len(g.close) > 0 {
		last := len(g.close) - 1
		err = errors.Join(err, g.close[last]())
		g.close = g.close[:last]
	}
	return err
}

// interruptible maps no frame once its context has ended, so that a tool that
// is interrupted comes to its end and lets the guest go on.
type interruptible struct {
	ctx context.Context
	vmi.FrameMapper
}

func (i interruptible) MapFrames(gfns []xen.GFN, writable bool) (vmi.Frames, error) {
	if err := i.ctx.Err(); err != nil {
		return nil, err
	}
	return i.FrameMapper.MapFrames(gfns, writable)
}
