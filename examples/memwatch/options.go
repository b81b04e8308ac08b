package main

import (
	"io"
	"strconv"
	"strings"

	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/xen"
)

// kinds are the kinds of access that are of interest.
type kinds struct{ read, write, execute bool }

// leaves is what the guest may still do with a frame without an event. A
// processor has no pages that can be written and not be read, so that watching
// reads stops writes as well.
func (k kinds) leaves() xen.Access {
	switch {
	case k.read:
		return xen.AccessN
	case k.write && k.execute:
		return xen.AccessR
	case k.write:
		return xen.AccessRX
	}
	return xen.AccessRW
}

// options are what the command line says.
type options struct {
	domain  string
	symbol  string // with an offset maybe
	addr    uint64
	gfn     xen.GFN
	byFrame bool
	offset  uint64 // in the frame
	length  uint64
	kinds   kinds
	count   int
	file    string
	json    bool
	noViews bool
}

const usage = `usage: memwatch -domain NAME|ID -symbol NAME[+N] | -addr ADDRESS | -gfn N [-offset N]  [-len N] [-access rwx] [-n N] [-o FILE] [-json]

Prints who reads, writes or executes a range of a Xen guest's memory: of its
kernel's address space, or of one frame. Runs as root in dom0.

`

// maxLength bounds the frames that are watched.
const maxLength = 1 << 20

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := session.NewCommand("memwatch", usage, stderr)
	var addr, gfn, access string
	f.DomainVar(&o.domain)
	f.StringVar(&o.symbol, "symbol", "", "watch what this kernel `symbol` names")
	f.StringVar(&addr, "addr", "", "watch this `address` of the kernel's, 0x...")
	f.StringVar(&gfn, "gfn", "", "watch this `frame` of the guest's memory, by its number")
	f.Uint64Var(&o.offset, "offset", 0, "with -gfn, begin this many `bytes` into it")
	f.Uint64Var(&o.length, "len", 8, "how many `bytes` to watch; of a frame, its rest if not given")
	f.StringVar(&access, "access", "w", "the `kinds` of access, of r, w and x")
	f.IntVar(&o.count, "n", 0, "end after this `many` accesses")
	f.StringVar(&o.file, "o", "", "write to `file` instead of standard output")
	f.BoolVar(&o.json, "json", false, "print one JSON object per access")
	f.BoolVar(&o.noViews, "noviews", false, "close the frames for the whole domain even if it may have altp2m views")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	targets := 0
	for _, name := range []string{"symbol", "addr", "gfn"} {
		if f.Given(name) {
			targets++
		}
	}
	o.byFrame = f.Given("gfn")
	if o.byFrame && !f.Given("len") && o.offset < xen.PageSize {
		o.length = xen.PageSize - o.offset
	}
	switch {
	case targets != 1:
		return o, f.Refuse("one of -symbol, -addr and -gfn is needed")
	case f.Given("offset") && !o.byFrame:
		return o, f.Refuse("-offset goes with -gfn")
	case o.length == 0 || o.length > maxLength:
		return o, f.Refuse("-len %d is not between 1 and %d", o.length, maxLength)
	case o.byFrame && (o.offset >= xen.PageSize || o.length > xen.PageSize-o.offset):
		return o, f.Refuse("-offset %d and -len %d lead out of the frame", o.offset, o.length)
	case strings.Trim(access, "rwx") != "" || access == "":
		return o, f.Refuse("-access %q has other letters than r, w and x", access)
	case o.count < 0:
		return o, f.Refuse("-n %d is negative", o.count)
	}
	o.kinds = kinds{strings.Contains(access, "r"), strings.Contains(access, "w"), strings.Contains(access, "x")}
	if f.Given("addr") {
		if o.addr, err = strconv.ParseUint(addr, 0, 64); err != nil {
			return o, f.Refuse("-addr %q is no address", addr)
		}
	}
	if o.byFrame {
		n, err := strconv.ParseUint(gfn, 0, 52)
		if err != nil {
			return o, f.Refuse("-gfn %q is no frame", gfn)
		}
		o.gfn = xen.GFN(n)
	}
	return o, nil
}
