package linux

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/govmi/govmi/vmi"
)

// ErrOtherKernel says that two states are not of one build of a kernel.
var ErrOtherKernel = errors.New("not the same build of the kernel")

// CompareCode yields where the code of the kernel and its modules differs from
// that of an earlier state of the guest, read from a recording or a dump of it, or
// of another guest with the same build of the kernel on the same processor: every
// byte is compared, but for the places that the kernel changes as it runs, which
// [Kernel.CheckCode] looks at, and the LOCK prefixes that it takes out on one CPU.
// The kernel's random address, and the modules', may differ: numbers of 4 bytes
// that differ by the distance of two of these are the same. The error matches
// [ErrOtherKernel] if the kernels are not of one build.
//
// A module that the earlier state lacks, or has in another size, is named and not
// compared. Both guests are to be paused, and the earlier state is trusted.
func (k *Kernel) CompareCode(earlier *Kernel) iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		if err := k.compareCode(earlier, yield); err != nil {
			yield(Finding{}, err)
		}
	}
}

func (k *Kernel) compareCode(earlier *Kernel, yield func(Finding, error) bool) error {
	if err := k.sameBuild(earlier); err != nil {
		return err
	}
	was, err := earlier.readCode()
	if err != nil {
		return fmt.Errorf("earlier state: %w", err)
	}
	is, err := k.readCode()
	if err != nil {
		return err
	}
	d := codeDiff{is: is, skip: make(map[vmi.VirtAddr]bool), yield: yield, more: true}
	// Where each is now, and how far from where it was.
	before := make(map[string]*codeRange)
	for i := range was.ranges {
		before[was.ranges[i].module] = &was.ranges[i]
	}
	after := make(map[string]vmi.VirtAddr)
	for i := range is.ranges {
		after[is.ranges[i].module] = is.ranges[i].Start
	}
	moved := func(va vmi.VirtAddr) vmi.VirtAddr { // of the earlier state
		if r := was.rangeOf(va); r != nil {
			return after[r.module] + va - r.Start
		}
		return 0
	}
	if err := is.eachSite(func(va vmi.VirtAddr, size int, _ string) { d.leaveOut(va, size) }); err != nil {
		return err
	}
	if err := was.eachSite(func(va vmi.VirtAddr, size int, _ string) { d.leaveOut(moved(va), size) }); err != nil {
		return fmt.Errorf("earlier state: %w", err)
	}
	for i := range is.ranges {
		r := &is.ranges[i]
		if old := before[r.module]; old != nil {
			d.moves = append(d.moves, uint32(r.Start-old.Start))
		}
	}
	slices.Sort(d.moves)
	d.moves = slices.Compact(d.moves) // of one boot: 0 alone
	for i := range is.ranges {
		r := &is.ranges[i]
		old := before[r.module]
		if old == nil || len(old.bytes) != len(r.bytes) {
			d.found(Finding{Kind: UnknownModule, Name: r.module, Addr: r.Start})
			continue
		}
		d.compare(old, r)
		if !d.more {
			return nil
		}
	}
	return nil
}

// sameBuild compares the banners, which have the build's time, and the symbols.
func (k *Kernel) sameBuild(earlier *Kernel) error {
	var banners [2]string
	for i, k := range []*Kernel{k, earlier} {
		at, err := k.syms.Lookup("linux_banner")
		if err != nil {
			return err
		}
		if banners[i], err = k.as.CString(at, 512); err != nil {
			return fmt.Errorf("kernel's banner: %w", err)
		}
	}
	if banners[0] != banners[1] || k.syms.Len() != earlier.syms.Len() {
		return fmt.Errorf("%w: %.80q and %.80q", ErrOtherKernel, banners[0], banners[1])
	}
	own, err1 := k.code()
	old, err2 := earlier.code()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if own.End-own.Start != old.End-old.Start {
		return fmt.Errorf("%w: code of %d and %d bytes", ErrOtherKernel, own.End-own.Start, old.End-old.Start)
	}
	return nil
}

type codeDiff struct {
	is    *codeImage
	skip  map[vmi.VirtAddr]bool
	moves []uint32 // how far each range is from where it was
	yield func(Finding, error) bool
	more  bool
}

func (d *codeDiff) found(f Finding) {
	if d.more {
		d.more = d.yield(f, nil)
	}
}

func (d *codeDiff) leaveOut(va vmi.VirtAddr, size int) {
	for i := range size {
		d.skip[va+vmi.VirtAddr(i)] = true
	}
}

// maxShown bounds the bytes of a difference that are shown, and those between two
// that are told as one.
const maxShown = 16

func (d *codeDiff) compare(old, now *codeRange) {
	move := uint32(now.Start - old.Start)
	n := len(now.bytes)
	const chunk = 256 // most are the same
	for i := 0; i < n && d.more; i++ {
		if i+chunk <= n && bytes.Equal(old.bytes[i:i+chunk], now.bytes[i:i+chunk]) {
			i += chunk - 1
			continue
		}
		if !d.differs(old, now, i) {
			continue
		}
		if size := d.relocated(old.bytes, now.bytes, i, move); size > 0 {
			i += size - 1
			continue
		}
		last := i
		for j := i; j < min(n, last+maxShown); j++ {
			if d.differs(old, now, j) {
				last = j
			}
		}
		at := now.Start + vmi.VirtAddr(i)
		end := min(last+1, i+maxShown)
		d.found(Finding{Kind: ChangedCode, Name: d.is.name(at), Addr: at, Number: last + 1 - i,
			Where: fmt.Sprintf("bytes % x, before % x", now.bytes[i:end], old.bytes[i:end])})
		i = last
	}
}

func (d *codeDiff) differs(old, now *codeRange, i int) bool {
	a, b := old.bytes[i], now.bytes[i]
	if a == b || d.skip[now.Start+vmi.VirtAddr(i)] {
		return false
	}
	const lock, ds = 0xf0, 0x3e
	return !(a == lock && b == ds || a == ds && b == lock)
}

// relocated returns how many bytes from i on end a number that differs because
// code is elsewhere than before: an address, or a distance from code that moved by
// move. Distances are of whole pages, so that the number's first byte is the same.
func (d *codeDiff) relocated(old, now []byte, i int, move uint32) int {
	for first := i; first >= max(0, i-3); first-- {
		if first+4 > len(now) {
			continue
		}
		diff := binary.LittleEndian.Uint32(now[first:]) - binary.LittleEndian.Uint32(old[first:])
		if diff == -move && move != 0 { // to what has not moved
			return first + 4 - i
		}
		for _, m := range d.moves {
			if diff != 0 && (diff == m || diff == m-move) {
				return first + 4 - i
			}
		}
	}
	return 0
}
