package journal

import (
	"encoding/hex"
	"errors"
	"os"
	"strings"

	"github.com/govmi/govmi/xen"
)

// identity tells a domain from all others, those that had its number before
// included.
type identity struct {
	id   xen.DomID
	uuid [16]byte
	boot [16]byte // of the machine; zero if it could not be told
	// started is when the toolstack built the domain, in ns since 1970; 0 if it
	// did not say, or XenStore tells dom0 only.
	started int64
	// cpuTime, in ns, is what the domain had used when the journal began, and so
	// it never has less.
	cpuTime int64
}

// identify tells which domain d is now.
func identify(d *xen.Domain) (identity, error) {
	info, err := d.Info()
	if err != nil {
		return identity{}, err
	}
	me := identity{id: info.ID, uuid: info.UUID, boot: bootID(), cpuTime: int64(info.CPUTime)}
	switch t, err := d.StartTime(); {
	case err == nil:
		me.started = t.UnixNano()
	case !errors.Is(err, xen.ErrNotFound) && !errors.Is(err, xen.ErrPermission):
		return identity{}, err
	}
	return me, nil
}

// is reports whether the domain that a journal was begun for is the one that is
// now identified as now.
func (i identity) is(now identity) bool {
	return i.id == now.id && i.uuid == now.uuid && i.boot == now.boot && i.started == now.started && i.cpuTime <= now.cpuTime
}

// bootID is the kernel's number for this boot of it.
func bootID() (id [16]byte) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id // another system; the rest has to tell
	}
	digits, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(b)), "-", ""))
	if err != nil || len(digits) != len(id) {
		return id
	}
	return [16]byte(digits)
}
