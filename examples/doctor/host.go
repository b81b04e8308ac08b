package main

import (
	"fmt"

	"github.com/govmi/govmi/xen"
)

// host looks at the hypervisor and the processor.
func host(h *xen.Hypervisor) []finding {
	return []finding{hypervisor(h), processor(h), policy(h), bootAltP2M(h)}
}

func hypervisor(h *xen.Hypervisor) finding {
	found := fmt.Sprintf("Xen %v", h.Version())
	b, err := h.Build()
	if err != nil {
		return failed("hypervisor", limited, err)
	}
	return finding{"hypervisor", good, fmt.Sprintf("%s, built %s with %s; booted with %q", found, b.Date, b.Compiler, b.CommandLine), ""}
}

// processor looks for what HVM and PVH guests with nested page tables need.
func processor(h *xen.Hypervisor) finding {
	const check = "processor"
	i, err := h.Host()
	if err != nil {
		return refused(check, err)
	}
	name, tables := "no virtualization", ""
	switch {
	case i.VMX:
		name, tables = "Intel VT-x", "EPT"
	case i.SVM:
		name, tables = "AMD-V", "NPT"
	}
	switch {
	case !i.HVM:
		return finding{check, bad, name + ": Xen cannot use it", "turn virtualization on in the firmware; no HVM or PVH guest runs without"}
	case !i.HAP:
		return finding{check, bad, name + " without nested page tables", "a processor with EPT or NPT; not hap=0 on Xen's command line"}
	}
	return finding{check, good, fmt.Sprintf("%s with nested page tables (%s), %d CPUs", name, tables, i.CPUs), ""}
}

func policy(h *xen.Hypervisor) finding {
	const check = "security policy"
	p, err := h.Policy()
	if err != nil {
		return failed(check, limited, err)
	}
	switch p {
	case xen.PolicyNone:
		return finding{check, good, "none (no FLASK): dom0 may do everything", ""}
	case xen.PolicyPermissive:
		return finding{check, good, "FLASK, permissive: it denies nothing", ""}
	}
	return finding{check, good, fmt.Sprintf("FLASK, %v: what it denies is with the domains", p), ""}
}

// bootAltP2M looks at Xen's command line.
func bootAltP2M(h *xen.Hypervisor) finding {
	const check = "altp2m"
	i, err := h.Host()
	if err != nil {
		return failed(check, limited, err)
	}
	if !i.VMX {
		return finding{check, limited, "Xen has views on Intel processors only: breakpoints are patched into the guest's kernel", ""}
	}
	b, err := h.Build()
	if err != nil {
		return failed(check, limited, err)
	}
	if b.CommandLine == "<denied>" {
		return finding{check, limited, "unknown: Xen keeps its command line from this domain", "what counts is with the domains, as views"}
	}
	if on, _ := b.BootOption("altp2m"); !on {
		return finding{check, limited, "off: breakpoints are patched into the guest's kernel", "boot Xen with altp2m=1"}
	}
	return finding{check, good, "on Xen's command line", ""}
}
