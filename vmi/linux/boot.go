package linux

import (
	"errors"
	"fmt"
	"time"

	"github.com/govmi/govmi/vmi"
)

// maxCommandLine bounds the boot parameters; x86's kernel allows 2048 bytes
// (COMMAND_LINE_SIZE), those of a bootconfig may come on top.
const maxCommandLine = 1 << 15

// CommandLine returns the parameters that the kernel was started with, as
// /proc/cmdline has them, up to 32 KiB.
func (k *Kernel) CommandLine() (string, error) {
	at, err := k.syms.Lookup("saved_command_line")
	if err != nil {
		return "", err
	}
	line, err := k.as.Uint64(at)
	if err != nil {
		return "", fmt.Errorf("boot parameters: %w", err)
	}
	s, err := k.as.CString(vmi.VirtAddr(line), maxCommandLine)
	if err != nil {
		return "", fmt.Errorf("boot parameters: %w", err)
	}
	return s, nil
}

// Clock is what a guest's clocks show. The kernel brings them up to date at its
// ticks, some 250 times a second while it works; an idle guest's can be seconds
// behind.
type Clock struct {
	// Uptime is the time since the start, suspended time included, as the first
	// number of /proc/uptime.
	Uptime time.Duration
	// Wall is the time of day.
	Wall time.Time
}

type clockFields struct {
	// Up to 6.12 the structure around it has no name; a count of its changes
	// comes before.
	InCore  Field `btf:"tk_data.timekeeper?"`
	Base    Field `btf:"timekeeper.tkr_mono.base"`
	Nsec    Field `btf:"timekeeper.tkr_mono.xtime_nsec"`
	Shift   Field `btf:"timekeeper.tkr_mono.shift"`
	Seconds Field `btf:"timekeeper.xtime_sec"`
	Boot    Field `btf:"timekeeper.offs_boot"`
}

// Clock reads the guest's clocks. The guest's clock source is not asked, which
// takes code that runs in the guest.
func (k *Kernel) Clock() (Clock, error) {
	f, err := k.fields.clock.of(k)
	if err != nil {
		return Clock{}, err
	}
	core, err := k.syms.Lookup("tk_core")
	if err != nil {
		return Clock{}, err
	}
	in := vmi.VirtAddr(8)
	if f.InCore.Size != 0 {
		in = vmi.VirtAddr(f.InCore.Offset)
	}
	const tries = 100
	count := Field{Path: "tk_core.seq", Size: 4} // odd while the rest changes
	for range tries {
		r := &reader{s: k.as}
		before := r.uint(count, core)
		tk := core + in
		shift := r.uint(f.Shift, tk) & 63
		nsec := r.uint(f.Nsec, tk) >> shift
		c := Clock{
			Uptime: time.Duration(r.uint(f.Base, tk) + r.uint(f.Boot, tk) + nsec),
			Wall:   time.Unix(int64(r.uint(f.Seconds, tk)), int64(nsec)).UTC(),
		}
		if r.err != nil {
			return Clock{}, fmt.Errorf("clock: %w", r.err)
		}
		if before%2 == 0 && r.uint(count, core) == before {
			if c.Uptime < 0 || nsec >= uint64(time.Minute) {
				return Clock{}, fmt.Errorf("%w: an uptime of %v", ErrCorrupt, c.Uptime)
			}
			return c, nil
		}
	}
	return Clock{}, errors.New("the guest's clock changes all the time; pause the guest")
}
