//go:build lab

package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/device"
	"github.com/govmi/govmi/internal/hcbuf"
	"github.com/govmi/govmi/internal/privcmd"
	"github.com/govmi/govmi/xen"
)

// childMode, in the environment, has the test program act in a domain of its own
// as one of children does with the domain $DOMAIN.
const childMode = "GOVMI_POLICY_TEST_CHILD"

var children = map[string]func(dom uint16) ([]answer, error){"list": list, "introspect": introspect, "control": control}

func TestMain(m *testing.M) {
	mode := os.Getenv(childMode)
	if mode == "" {
		os.Exit(m.Run())
	}
	dom, err := strconv.ParseUint(os.Getenv("DOMAIN"), 10, 15)
	if err == nil {
		var a []answer
		if a, err = children[mode](uint16(dom)); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(a)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// answer is what came of an operation.
type answer struct {
	Op           string
	Error, Errno string `json:",omitempty"`
	Kind         string `json:",omitempty"` // "permission" where the error matches
}

func reply(op string, err error) answer {
	a := answer{Op: op}
	if err == nil {
		return a
	}
	a.Error = err.Error()
	var errno syscall.Errno
	if errors.As(err, &errno) {
		a.Errno = unix.ErrnoName(errno)
	}
	if errors.Is(err, xen.ErrPermission) || errors.Is(err, privcmd.ErrPolicy) {
		a.Kind = "permission"
	}
	return a
}

// list names the domains that there are.
func list(uint16) ([]answer, error) {
	h, err := xen.Open(nil)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var got []answer
	for info, err := range h.Domains() {
		got = append(got, reply("domain "+info.ID.String(), err))
	}
	return got, nil
}

// introspect does to a domain what monitors do, each thing by itself and so that
// nothing remains of it.
func introspect(dom uint16) ([]answer, error) {
	c, err := connect()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	h, err := xen.Open(nil)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	_, lookup := h.Domain(xen.DomID(dom))
	got := []answer{reply("lookup", lookup)}
	for _, o := range []struct {
		name string
		make func() error
	}{
		{"getdomaininfo", func() error { _, err := c.DomainInfo(dom); return err }},
		{"pause", func() error {
			if err := c.PauseDomain(dom); err != nil {
				return err
			}
			return c.UnpauseDomain(dom)
		}},
		{"gethvmcontext", func() error { _, err := c.CPUContext(dom, 0); return err }},
		{"debug_op", func() error { return c.SingleStep(dom, 0, false) }},
		{"hvm param", func() error { _, err := c.HVMParam(dom, abi.HVMParamMonitorRingPFN); return err }},
		{"maximum_gpfn", func() error { _, err := c.MaximumGPFN(dom); return err }},
		{"capabilities", func() error { _, err := c.Monitor(dom, abi.MonitorGetCapabilities, 0); return err }},
		{"altp2m", func() error { _, err := c.AltP2MState(dom); return err }},
		{"grant table", func() error {
			mem, err := c.MapResource(dom, abi.ResourceGrantTable, 0, 0, 1)
			if err != nil {
				return err
			}
			return c.Unmap(mem)
		}},
	} {
		// What AMD's processors lack Xen says before it asks the policy.
		if err := o.make(); !errors.Is(err, syscall.EOPNOTSUPP) {
			got = append(got, reply(o.name, err))
		}
	}
	return got, nil
}

func connect() (*privcmd.Conn, error) {
	var k device.Kernel
	pc, err := k.Open(device.Privcmd)
	if err != nil {
		return nil, err
	}
	mem, err := k.Open(device.Hypercall)
	if err != nil {
		return nil, errors.Join(err, pc.Close())
	}
	c := privcmd.New(pc, mem)
	major, minor, err := c.XenVersion()
	if err == nil {
		_, err = c.NegotiateDomctl(major, minor)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// raw makes hypercalls that govmi has no words for.
type raw struct {
	dev     device.File
	pool    *hcbuf.Pool
	version uint32 // of domctls
}

func openRaw() (*raw, error) {
	c, err := connect()
	if err != nil {
		return nil, err
	}
	r := &raw{version: c.DomctlVersion()}
	if err := c.Close(); err != nil {
		return nil, err
	}
	var k device.Kernel
	if r.dev, err = k.Open(device.Privcmd); err != nil {
		return nil, err
	}
	mem, err := k.Open(device.Hypercall)
	if err != nil {
		return nil, err
	}
	r.pool = hcbuf.NewPool(mem)
	return r, nil
}

// control does to a domain what a monitor has no business with. Its parameters
// are all zeros: Xen asks its policy before it looks at them.
func control(dom uint16) ([]answer, error) {
	r, err := openRaw()
	if err != nil {
		return nil, err
	}
	var got []answer
	for name, cmd := range map[string]uint32{
		"destroydomain": 2, "setvcpuaffinity": 9, "setvcpucontext": 12, "max_vcpus": 15, "setdomainhandle": 17, "hypercall_init": 22,
		"settimeoffset": 24, "resumedomain": 27, "sendtrigger": 28, "subscribe": 29, "sethvmcontext": 34, "mem_sharing_op": 57,
		"settscinfo": 60, "set_cpu_policy": 83, "set_paging_mempool_size": 86,
	} {
		got = append(got, reply(name, r.domctl(cmd, dom)))
	}
	// dom0 is no business of its either, nor are Xen and its policy.
	got = append(got, reply("pause dom0", r.domctl(3, 0)), reply("destroy dom0", r.domctl(2, 0)),
		reply("readconsole", r.sysctl(1)), reply("debug_keys", r.sysctl(7)), reply("setenforce", r.xsm(3)))
	return got, nil
}
