package strace

var (
	fcntlCmd  = enumOf(fcntlCmds)
	fcntlSpec = pick(func(a *[6]uint64) []kind {
		if k, ok := fcntlForms[a[1]&0xffffffff]; ok {
			return k
		}
		return fcntlOther
	}).notes(func(s *state) {
		switch s.args[1] & 0xffffffff {
		case 1: // F_GETFD
			if s.ret != 0 {
				s.str("(flags ")
				s.flags(fdFlagNames, uint64(s.ret))
				s.char(')')
			}
		case 3: // F_GETFL
			s.str("(flags ")
			s.openFlags(uint64(s.ret))
			s.char(')')
		case 1025: // F_GETLEASE
			s.str("(")
			s.enum(lockTypes, uint64(s.ret))
			s.char(')')
		case 1034: // F_GET_SEALS
			if s.ret != 0 {
				s.str("(seals ")
				s.flags(sealNames, uint64(s.ret))
				s.char(')')
			}
		}
	}).with(func(sp *spec) {
		sp.hexIf = func(a *[6]uint64) bool {
			switch a[1] & 0xffffffff {
			case 1, 3, 1025, 1034:
				return true
			}
			return false
		}
	})

	fcntlNoArg = []kind{fd, fcntlCmd}
	fcntlInt   = []kind{fd, fcntlCmd, decInt}
	fcntlOther = []kind{fd, fcntlCmd, hexLong}
	fcntlForms = map[uint64][]kind{
		0: fcntlInt, 1: fcntlNoArg, 2: {fd, fcntlCmd, flagsOf(fdFlagNames)},
		3: fcntlNoArg, 4: {fd, fcntlCmd, openHow},
		5: {fd, fcntlCmd, flockOut}, 6: {fd, fcntlCmd, flockIn}, 7: {fd, fcntlCmd, flockIn},
		8: fcntlInt, 9: fcntlNoArg, 10: {fd, fcntlCmd, sigNum}, 11: fcntlNoArg,
		15: {fd, fcntlCmd, in((*state).ownerEx)}, 16: {fd, fcntlCmd, out((*state).ownerEx)},
		36: {fd, fcntlCmd, flockOut}, 37: {fd, fcntlCmd, flockIn}, 38: {fd, fcntlCmd, flockIn},
		1024: {fd, fcntlCmd, enumOf(lockTypes)}, 1025: fcntlNoArg, 1030: fcntlInt, 1031: fcntlInt, 1032: fcntlNoArg,
		1033: {fd, fcntlCmd, flagsOf(sealNames)}, 1034: fcntlNoArg,
	}

	flockIn  = in((*state).flock)
	flockOut = out((*state).flock)
)

// flock writes a struct flock of 64-bit machines.
func (s *state) flock(v uint64) {
	b := s.structAt(v, 32)
	if b == nil {
		return
	}
	s.str("{l_type=")
	s.enum(lockTypes, u16(b))
	s.str(", l_whence=")
	whence.put(s, u16(b[2:]))
	s.str(", l_start=")
	s.dec(i64(b[8:]))
	s.str(", l_len=")
	s.dec(i64(b[16:]))
	if s.out {
		s.str(", l_pid=")
		s.dec(i32(b[24:]))
	}
	s.char('}')
}

// ownerEx writes a struct f_owner_ex.
func (s *state) ownerEx(v uint64) {
	if b := s.structAt(v, 8); b != nil {
		s.str("{type=")
		s.enum(ownerTypes, u32(b))
		s.str(", pid=")
		s.dec(i32(b[4:]))
		s.char('}')
	}
}

var ownerTypes = numbered("F_OWNER_???", 0, "F_OWNER_TID", "F_OWNER_PID", "F_OWNER_PGRP")
