package strace

// spec is the form of one system call.
type spec struct {
	args []kind
	// pick chooses the form where it depends on the arguments.
	pick func(a *[6]uint64) []kind

	ret      retForm
	noReturn bool // ends the thread
	newImage bool // replaces the process's memory when it succeeds
	alwaysOK bool // a small negative value is no error
	// hexIf says for which arguments a value is shown in hex.
	hexIf func(a *[6]uint64) bool
	// note adds strace's remark after the value of a call that succeeded.
	note func(s *state)
}

func (sp *spec) form(a *[6]uint64) []kind {
	if sp.pick != nil {
		return sp.pick(a)
	}
	return sp.args
}

type retForm uint8

const (
	retDec retForm = iota
	retHex
	retOct
	retUint
)

// call is the form of a call whose arguments are always the same and whose
// value is a decimal number.
func call(args ...kind) *spec { return &spec{args: args} }

func (sp *spec) returns(f retForm) *spec       { sp.ret = f; return sp }
func (sp *spec) notes(f func(s *state)) *spec  { sp.note = f; return sp }
func pick(f func(a *[6]uint64) []kind) *spec   { return &spec{pick: f} }
func (sp *spec) with(set func(sp *spec)) *spec { set(sp); return sp }

// rawSpec shows six registers.
var rawSpec = call(hexLong, hexLong, hexLong, hexLong, hexLong, hexLong)

// specs holds the calls known by name.
var specs = merge(fileCalls, memoryCalls, processCalls, signalCalls, timeCalls, socketCalls, pollCalls, otherCalls)

func merge(tables ...map[string]*spec) map[string]*spec {
	all := make(map[string]*spec)
	for _, t := range tables {
		for name, sp := range t {
			if all[name] != nil {
				panic("strace: two forms for " + name)
			}
			all[name] = sp
		}
	}
	return all
}
