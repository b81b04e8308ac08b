package strace

// xlat is a set of names for numbers: flags or the values of an enumeration,
// in the order in which strace tries them.
type xlat struct {
	unknown string // what strace calls a number without a name, e.g. O_???
	names   []named
}

type named struct {
	v uint64
	n string
}

// flags writes v as names joined by |, the rest in hex.
func (s *state) flags(x *xlat, v uint64) {
	if v == 0 {
		for _, f := range x.names {
			if f.v == 0 {
				s.str(f.n)
				return
			}
		}
		s.char('0')
		return
	}
	if !s.flagNames(x, &v, false) {
		s.hex(v)
		if x.unknown != "" {
			s.str(" /* ")
			s.str(x.unknown)
			s.str(" */")
		}
		return
	}
	if v != 0 {
		s.char('|')
		s.hex(v)
	}
}

// moreFlags writes what is left of v after the caller's own names.
func (s *state) moreFlags(x *xlat, v uint64) {
	s.flagNames(x, &v, true)
	if v != 0 {
		s.char('|')
		s.hex(v)
	}
}

// flagNames writes the names of v's flags and clears them in v.
func (s *state) flagNames(x *xlat, v *uint64, some bool) bool {
	for _, f := range x.names {
		if f.v == 0 || *v&f.v != f.v {
			continue
		}
		if some {
			s.char('|')
		}
		s.str(f.n)
		some = true
		*v &^= f.v
	}
	return some
}

// name returns v's name, or "".
func (x *xlat) name(v uint64) string {
	for _, f := range x.names {
		if f.v == v {
			return f.n
		}
	}
	return ""
}

// enum writes v's name, or the number and a comment.
func (s *state) enum(x *xlat, v uint64) {
	if n := x.name(v); n != "" {
		s.str(n)
		return
	}
	s.hex(v)
	if x.unknown != "" {
		s.str(" /* ")
		s.str(x.unknown)
		s.str(" */")
	}
}

// numbered names consecutive values from first on; "" leaves one out.
func numbered(unknown string, first uint64, names ...string) *xlat {
	x := &xlat{unknown: unknown}
	for i, n := range names {
		if n != "" {
			x.names = append(x.names, named{first + uint64(i), n})
		}
	}
	return x
}

// bitNames names consecutive bits from bit first on; "" leaves one out.
func bitNames(unknown string, first uint, names ...string) *xlat {
	x := &xlat{unknown: unknown}
	for i, n := range names {
		if n != "" {
			x.names = append(x.names, named{1 << (first + uint(i)), n})
		}
	}
	return x
}

// prefixed puts p before every name that is not empty.
func prefixed(p string, names ...string) []string {
	for i, n := range names {
		if n != "" {
			names[i] = p + n
		}
	}
	return names
}
