package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/govmi/govmi/xen"
)

const (
	// maxFile bounds what is read.
	maxFile = 64 << 20
	// slack is how long a journal may get before what was undone meanwhile is
	// left out; a longer one may double.
	slack = 64 << 10
)

// DefaultPath is where the journal of the domain with that number is, unless
// told otherwise.
func DefaultPath(id xen.DomID) string { return fmt.Sprintf("/run/govmi/domain-%d.journal", id) }

// Options configure [Open]; nil means the zero value.
type Options struct {
	// Path is the journal's file; empty is [DefaultPath], whose directory is made.
	// [Recover] has to be given the same, and would else find no journal.
	Path string
}

// Journal is the open journal of a domain's monitor. Its methods, and those of
// its domain, may be called from several goroutines.
type Journal struct {
	dom  *xen.Domain
	path string

	mu     sync.Mutex
	file   *os.File // nil once it is closed
	size   int64
	bound  int64 // of the size, before the file is written anew
	state  *state
	failed error // the file does not end with a record any more
}

// Open begins the journal of a domain whose ring the caller has: that keeps all
// others away from the file. The caller closes the journal after the monitor.
//
// The error matches [xen.ErrBusy] if there is a journal of this domain with
// something left to undo, because its monitor died: [Recover] it first. It matches
// [ErrCorrupt] if the file is no journal. A journal that is about an earlier
// domain of that number is dropped.
func Open(d *xen.Domain, o *Options) (*Journal, error) {
	j := &Journal{dom: d, path: DefaultPath(d.ID())}
	if o != nil && o.Path != "" {
		j.path = o.Path
	} else if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	me, err := identify(d)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", j.path, err)
	}
	left, err := find(j.path, me)
	if err != nil {
		return nil, err
	}
	if left.state != nil && !left.state.empty() {
		return nil, fmt.Errorf("journal %s: a monitor of domain %d died and left %v: recover the domain first: %w",
			j.path, d.ID(), left.state, xen.ErrBusy)
	}
	j.state = newState(me)
	if err := j.rewrite(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return j, nil
}

// found is what a file says about a domain.
type found struct {
	state *state // nil: nothing
	torn  bool
	stale bool // it is about an earlier domain
	file  bool // there is a journal, whatever it says
}

// find reads the journal of the domain that is now identified as me.
func find(path string, me identity) (f found, err error) {
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err == nil {
		f.state, f.torn, err = parse(b)
		f.file = f.state != nil || f.torn
	}
	switch s := f.state; {
	case errors.Is(err, ErrCorrupt):
		return f, fmt.Errorf("journal %s: %w: remove the file to recover what can be recovered without it", path, err)
	case err != nil:
		return f, fmt.Errorf("journal %s: %w", path, err)
	case s == nil || s.domain.is(me):
	case s.domain.id != me.id && !s.empty():
		return f, fmt.Errorf("journal %s: it is about domain %d: name another file, or remove it: %w", path, s.domain.id, fs.ErrExist)
	default:
		f = found{stale: true, file: true}
	}
	return f, nil
}

func readFile(path string) (b []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrCorrupt, maxFile)
	}
	return b, err
}

// rewrite puts a file with the present state in the old one's place. Whenever the
// process dies, one of them is there as a whole.
func (j *Journal) rewrite() (err error) {
	b := j.state.append(nil)
	fresh := j.path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = os.Rename(fresh, j.path)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(fresh))
	}
	old := j.file
	j.file, j.size, j.failed = f, int64(len(b)), nil
	j.bound = max(slack, 2*j.size)
	if old != nil {
		return old.Close()
	}
	return nil
}

// add writes a record down. If it cannot, what it is about must not be done.
func (j *Journal) add(r record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.write(&r); err != nil {
		return fmt.Errorf("journal %s: %w", j.path, err)
	}
	j.state.apply(&r)
	return nil
}

// undone writes down that something was undone. If it cannot, recovery finds
// that for itself.
func (j *Journal) undone(r record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = j.write(&r)
	j.state.apply(&r)
}

func (j *Journal) write(r *record) error {
	if j.file == nil {
		return os.ErrClosed
	}
	b := r.append(nil)
	if j.failed != nil || j.size+int64(len(b)) > j.bound {
		if err := j.rewrite(); err != nil && j.failed != nil {
			return errors.Join(j.failed, err)
		} else if err != nil {
			j.bound += slack // the long file is as good
		}
	}
	n, err := j.file.Write(b)
	if err == nil {
		j.size += int64(n)
		return nil
	}
	// Half a record may only be the last.
	if terr := j.file.Truncate(j.size); n > 0 && terr != nil {
		j.failed = err
	}
	return err
}

// Domain returns the domain to be worked on, as [xen.Domain] is, and as what
// packages breakpoint and cr3filter take: what is done to it is written down.
func (j *Journal) Domain() *Domain { return &Domain{j.dom, j} }

// Path returns the file's name.
func (j *Journal) Path() string { return j.path }

// Close gives back the memory limit that was changed, and removes the file, if
// nothing else is left to undo; else the file stays for [Recover] and the error
// says what. Breakpoints and views are to be closed before, and then the monitor,
// at whose end the pages go. It is idempotent.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	if err = errors.Join(err, j.settle()); err != nil {
		return fmt.Errorf("journal %s: %w", j.path, err)
	}
	return nil
}

func (j *Journal) settle() error {
	info, err := j.dom.Info()
	if errors.Is(err, xen.ErrNoDomain) || err == nil && info.Dying {
		return os.Remove(j.path) // it took everything with it
	}
	if err != nil {
		return err
	}
	s := j.state
	for gfn := range s.frames {
		taken, err := there(j.dom, gfn)
		if err != nil {
			return err
		}
		if !taken {
			delete(s.frames, gfn)
		}
	}
	if s.altp2m || len(s.patches) > 0 || len(s.frames) > 0 {
		return fmt.Errorf("left in domain %d: %v: recover the domain", j.dom.ID(), s)
	}
	if _, err := s.limit.restore(j.dom, info); err != nil {
		return err
	}
	return os.Remove(j.path)
}

// there reports whether the domain has a page at gfn.
func there(d *xen.Domain, gfn xen.GFN) (bool, error) {
	f, err := d.MapFrames([]xen.GFN{gfn}, false)
	if err != nil {
		return false, err
	}
	_, missing := f.Frame(0)
	return missing == nil, f.Close()
}

// restore lets the domain have as many pages again as it might before, unless
// somebody else has decided since. It reports whether somebody has.
func (l *limit) restore(d *xen.Domain, info xen.DomainInfo) (other bool, err error) {
	switch {
	case !l.changed || info.MaxPages == l.before:
		return false, nil
	case info.MaxPages != l.last && info.MaxPages != l.really:
		return true, nil
	}
	return false, d.SetMaxPages(l.before)
}
