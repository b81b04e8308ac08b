package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/govmi/govmi/internal/lab/cache"
	"github.com/govmi/govmi/internal/lab/lane"
)

// Machine is a machine that is not running yet: all that it boots is in a folder. One goroutine at a time may use it.
type Machine struct {
	opt      Options
	boot     Boot
	cacheDir string
	dir      string // empty once it is a session's, or removed
	spec     *lane.Spec
	progress func(string)
}

// Make makes a machine. Its end is either Start or Close.
func Make(ctx context.Context, opt Options) (_ *Machine, err error) {
	cacheDir, err := cache.Dir()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	m := &Machine{opt: opt, cacheDir: cacheDir, progress: func(text string) {
		if opt.Progress != nil {
			mu.Lock()
			defer mu.Unlock()
			opt.Progress(text)
		}
	}}
	boot := opt.Boot
	if boot == nil {
		boot = &Boot{}
	}
	m.boot = boot.withDefaults()
	if err := m.boot.check(); err != nil {
		return nil, err
	}
	if m.dir, err = os.MkdirTemp("", "govmi-lab-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if opt.Keep {
		m.progress("the machine's files are in " + m.dir)
	}
	m.progress("preparing the images")
	m.spec, err = m.boot.images(ctx, cacheDir, m.dir, opt.Lane, m.progress)
	return m, err
}

// Close removes a machine that was not started.
func (m *Machine) Close() error {
	dir := m.dir
	m.dir = ""
	if dir == "" || m.opt.Keep {
		return nil
	}
	return os.RemoveAll(dir)
}

// Digest tells the machine from any other: by the content of what it boots, its emulator, and this program.
func (m *Machine) Digest(ctx context.Context) (string, error) {
	h := sha256.New()
	tools, err := lane.Identity(ctx, m.cacheDir, m.opt.Lane, m.progress)
	if err != nil {
		return "", err
	}
	s := m.spec
	fmt.Fprintf(h, "%q %d %q %q %q\n", m.opt.Lane, s.CPUs, tools, s.XenArgs, s.KernelArgs)
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	const kit = 2 // the other disks are empty
	for _, file := range slices.Concat([]string{self, s.Xen, s.Kernel, s.Initrd, s.Disks[kit]}, s.Modules) {
		if err := addDigest(h, file); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// addDigest adds a file's digest to another.
func addDigest(to io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	_, err = fmt.Fprintf(to, "%x\n", h.Sum(nil))
	return err
}

// Start boots the machine, as [Start] does, and leaves its folder to the session.
func (m *Machine) Start(ctx context.Context) (_ *Session, err error) {
	if m.dir == "" {
		return nil, os.ErrClosed
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	core, err := takeCore(ctx, m.cacheDir, runtime.NumCPU(), m.progress)
	if err != nil {
		return nil, err
	}
	machine, err := lane.Start(ctx, m.cacheDir, m.spec, m.progress)
	if err != nil {
		core()
		return nil, err
	}
	m.progress(fmt.Sprintf("the %s lane is starting", m.opt.Lane))
	s := newSession(machine, m.opt.Lane, m.boot.xenKind(), m.dir, m.spec.Disks, m.progress, m.opt.Keep)
	s.core = core
	m.dir = ""
	if err := s.waitForHello(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}
