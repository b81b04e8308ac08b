package strace

import "strings"

// genericSpec is the form of a call that is known only by its parameters.
func genericSpec(params []Param) *spec {
	if params == nil {
		return rawSpec
	}
	sp := &spec{}
	for i, p := range params {
		if i == 6 {
			break
		}
		sp.args = append(sp.args, genericKind(p))
	}
	return sp
}

// genericKind chooses a form by C type and, where the type says little, name.
func genericKind(p Param) kind {
	typ := strings.Join(strings.Fields(strings.NewReplacer("__user", " ", "__capability", " ", "*", " * ").Replace(p.Type)), " ")
	stars := strings.Count(typ, "*")
	isConst := strings.HasPrefix(typ, "const ")
	base := strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll(typ, "*", ""), "const "))
	base = strings.TrimSuffix(base, " const")
	name := strings.TrimLeft(p.Name, "_")
	switch {
	case stars > 1:
		return addr
	case stars == 1:
		switch base {
		case "char":
			if !isConst {
				return addr
			}
			if strings.Contains(name, "path") || strings.Contains(name, "file") || strings.Contains(name, "dir") {
				return path
			}
			return cstring
		case "struct __kernel_timespec", "struct timespec":
			if isConst {
				return timespecIn
			}
		case "struct __kernel_old_timeval", "struct timeval":
			if isConst {
				return timevalIn
			}
		case "struct __kernel_itimerspec", "struct itimerspec":
			if isConst {
				return in((*state).itimerspec)
			}
		}
		return addr
	}
	switch base {
	case "umode_t", "mode_t":
		return octMode
	case "size_t", "loff_t", "off_t", "ssize_t":
		if base == "size_t" {
			return size
		}
		return decLong
	case "uid_t", "gid_t", "qid_t":
		return ownerID
	case "pid_t", "key_t", "clockid_t", "timer_t", "key_serial_t", "rwf_t":
		return decInt
	case "int":
		switch {
		case strings.Contains(name, "dfd") || strings.Contains(name, "dirfd"):
			return dirfd
		case name == "sig" || name == "signum":
			return sigNum
		case strings.Contains(name, "flag"):
			return hexInt
		}
		return decInt
	case "unsigned int", "unsigned", "u32", "__u32", "uint32_t":
		if strings.Contains(name, "fd") {
			return fd
		}
		if strings.Contains(name, "flag") || strings.Contains(name, "mask") || name == "cmd" {
			return hexInt
		}
		return uInt
	case "long":
		return decLong
	case "aio_context_t":
		return hexLong
	case "unsigned long", "u64", "__u64", "uint64_t":
		if strings.Contains(name, "len") || strings.Contains(name, "count") || strings.HasPrefix(name, "nr") || name == "vlen" {
			return uLong
		}
		return hexLong
	}
	return hexLong
}
