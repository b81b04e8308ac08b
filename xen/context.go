package xen

import "github.com/govmi/govmi/internal/abi"

// fromContext fills r from an HVM context record.
func (r *Registers) fromContext(c *abi.HVMHWCPU) {
	*r = Registers{
		RAX: c.RAX, RCX: c.RCX, RDX: c.RDX, RBX: c.RBX, RSP: c.RSP, RBP: c.RBP, RSI: c.RSI, RDI: c.RDI,
		R8: c.R8, R9: c.R9, R10: c.R10, R11: c.R11, R12: c.R12, R13: c.R13, R14: c.R14, R15: c.R15,
		RIP: c.RIP, RFLAGS: c.RFLAGS,
		CR0: c.CR0, CR2: c.CR2, CR3: c.CR3, CR4: c.CR4,
		DR6: c.DR6, DR7: c.DR7,
		CS:          contextSegment(c.CSSel, c.CSAR, c.CSLimit, c.CSBase),
		SS:          contextSegment(c.SSSel, c.SSAR, c.SSLimit, c.SSBase),
		DS:          contextSegment(c.DSSel, c.DSAR, c.DSLimit, c.DSBase),
		ES:          contextSegment(c.ESSel, c.ESAR, c.ESLimit, c.ESBase),
		FS:          contextSegment(c.FSSel, c.FSAR, c.FSLimit, c.FSBase),
		GS:          contextSegment(c.GSSel, c.GSAR, c.GSLimit, c.GSBase),
		ShadowGS:    c.ShadowGS,
		EFER:        c.EFER,
		STAR:        c.STAR,
		LSTAR:       c.LSTAR,
		SysenterCS:  c.SysenterCS,
		SysenterESP: c.SysenterESP,
		SysenterEIP: c.SysenterEIP,
		GDTRBase:    c.GDTRBase,
		GDTRLimit:   c.GDTRLimit,
	}
}

func contextSegment(sel, ar, limit uint32, base uint64) Segment {
	return Segment{Selector: uint16(sel), Access: uint16(ar), Limit: limit, Base: base}
}
