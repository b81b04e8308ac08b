// Package kfunc watches functions of a guest's kernel from their entry to their
// end, with breakpoints on their own instructions: nothing on a stack is changed.
package kfunc

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/govmi/govmi/breakpoint"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

// Function is a function of the kernel, with all that it can end by.
type Function struct {
	Name  string
	Addr  vmi.VirtAddr
	Exits []breakpoint.Exit
}

// Refused is a function that matches and cannot be watched.
type Refused struct {
	Name string
	Why  error
}

var (
	// ErrNoFunction says that the kernel has no function of that name.
	ErrNoFunction = errors.New("the guest's kernel has no such function")
	// ErrUnprobable says that a breakpoint must not be in a function.
	ErrUnprobable = errors.New("must not have breakpoints")
	// ErrTooMany says that more functions match than are allowed.
	ErrTooMany = errors.New("too many functions")
)

const (
	maxFunction = 64 << 10 // bytes
	maxParts    = 4        // pieces that the compiler makes of a function
	maxRefused  = 1 << 16
)

// Find returns the functions of kernel k whose name is one of names or matches
// it, a pattern of [path.Match], in the order of their addresses: at most limit,
// or [ErrTooMany]. Of a pattern's functions those that cannot be watched are
// refused; a name without a pattern that cannot is an error: [ErrNoFunction],
// [ErrUnprobable], [breakpoint.ErrExits].
func Find(k *linux.Kernel, names []string, limit int) (found []Function, refused []Refused, err error) {
	t, err := newTable(k)
	if err != nil {
		return nil, nil, err
	}
	return t.find(names, limit)
}

func (t *table) find(names []string, limit int) (found []Function, refused []Refused, err error) {
	for _, name := range names {
		if _, err := path.Match(name, ""); err != nil {
			return nil, nil, fmt.Errorf("%q: %w", name, err)
		}
	}
	hit := make([]bool, len(names))
	for i, s := range t.syms {
		which := -1
		for j, name := range names {
			if ok, _ := path.Match(name, s.Name); ok { // the pattern is good
				hit[j] = true
				if which < 0 || isName(name) {
					which = j
				}
			}
		}
		if which < 0 || i > 0 && t.syms[i-1].Addr == s.Addr && slices.ContainsFunc(found, func(f Function) bool { return f.Addr == s.Addr }) {
			continue
		}
		exact := isName(names[which])
		if !exact && part(s.Name) {
			continue
		}
		f, err := t.function(s)
		switch {
		case err == nil:
			found = append(found, f)
		case exact:
			return nil, nil, fmt.Errorf("%s: %w", s.Name, err)
		case len(refused) < maxRefused:
			refused = append(refused, Refused{s.Name, err})
		}
		if len(found) > limit {
			return nil, nil, fmt.Errorf("%w: more than %d", ErrTooMany, limit)
		}
	}
	for j, name := range names {
		if !hit[j] {
			return nil, nil, fmt.Errorf("%s: %w", name, ErrNoFunction)
		}
	}
	return found, refused, nil
}

func isName(pattern string) bool { return !strings.ContainsAny(pattern, `*?[\`) }

// part reports the name of a piece that is no function: what the compiler has
// moved out of one, and the room before one.
func part(name string) bool {
	return strings.Contains(name, ".cold") || strings.HasPrefix(name, "__pfx_") || strings.HasPrefix(name, "__cfi_")
}

// table is what a kernel's text consists of.
type table struct {
	read    func(vmi.VirtAddr, []byte) (int, error)
	syms    []linux.Symbol // of text, by address
	end     vmi.VirtAddr   // of text
	avoid   []linux.CodeRange
	returns map[vmi.VirtAddr]bool // thunks
}

func newTable(k *linux.Kernel) (*table, error) {
	t := &table{read: k.AddressSpace().Read, returns: map[vmi.VirtAddr]bool{}}
	syms := k.Symbols()
	start, err := syms.Lookup("_stext")
	if err != nil {
		return nil, err
	}
	if t.end, err = syms.Lookup("_etext"); err != nil {
		return nil, err
	}
	if t.avoid, err = k.Unprobable(); err != nil {
		return nil, err
	}
	for s := range syms.All() {
		if s.Addr < start || s.Addr >= t.end || !strings.ContainsRune("TtWw", rune(s.Type)) {
			continue
		}
		t.syms = append(t.syms, s)
		if strings.HasSuffix(s.Name, "return_thunk") || s.Name == "__ret" || s.Name == "__x86_return_skl" {
			t.returns[s.Addr] = true
		}
	}
	return t, nil
}

// function finds where the function of a symbol ends.
func (t *table) function(s linux.Symbol) (Function, error) {
	f := Function{Name: s.Name, Addr: s.Addr}
	parts, err := t.add(nil, s.Addr)
	for err == nil {
		f.Exits, err = breakpoint.Exits(func(va vmi.VirtAddr) bool { return t.returns[va] }, parts...)
		cold := t.cold(s.Name, f.Exits)
		if err != nil || cold == 0 {
			break
		}
		parts, err = t.add(parts, cold)
	}
	if err != nil {
		return Function{}, err
	}
	return f, nil
}

// add reads one more piece of a function.
func (t *table) add(parts []breakpoint.Code, at vmi.VirtAddr) ([]breakpoint.Code, error) {
	next := t.end
	if i, _ := slices.BinarySearchFunc(t.syms, at+1, func(s linux.Symbol, va vmi.VirtAddr) int {
		if s.Addr < va {
			return -1
		}
		return 1
	}); i < len(t.syms) {
		next = t.syms[i].Addr
	}
	if next <= at || next-at > maxFunction || len(parts) == maxParts {
		return nil, fmt.Errorf("%w: %d bytes in %d pieces", breakpoint.ErrExits, next-at, len(parts)+1)
	}
	for _, a := range t.avoid {
		if at < a.End && next > a.Start {
			return nil, fmt.Errorf("it %w: %s", ErrUnprobable, a.Why)
		}
	}
	code := breakpoint.Code{Addr: at, Bytes: make([]byte, next-at)}
	if _, err := t.read(at, code.Bytes); err != nil {
		return nil, err
	}
	return append(parts, code), nil
}

// cold returns where a jump out of the function leads that stays in it: a piece
// that the compiler has moved away, 0 if there is no more.
func (t *table) cold(name string, exits []breakpoint.Exit) vmi.VirtAddr {
	for _, e := range exits {
		if e.Target == 0 {
			continue
		}
		i, exact := slices.BinarySearchFunc(t.syms, e.Target, func(s linux.Symbol, va vmi.VirtAddr) int {
			switch {
			case s.Addr < va:
				return -1
			case s.Addr > va:
				return 1
			}
			return 0
		})
		if !exact {
			i--
		}
		// Several symbols can be at the address.
		for j := i; j >= 0 && j < len(t.syms) && t.syms[j].Addr == t.syms[i].Addr; j++ {
			if strings.HasPrefix(t.syms[j].Name, name+".cold") {
				return t.syms[j].Addr
			}
		}
	}
	return 0
}
