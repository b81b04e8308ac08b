// Ss lists the sockets of a Linux guest with the processes that hold them,
// without anything running in it.
//
//	ss -domain guest
package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/govmi/govmi/examples/internal/view"
	"github.com/govmi/govmi/vmi/linux"
)

func main() { tool().Main() }

func tool() view.Tool {
	return view.Tool{
		Name: "ss", About: "Lists the TCP, UDP and Unix sockets of a Linux guest.",
		Run: func(g *view.Guest) error {
			users, err := users(g.Kernel)
			if err != nil {
				return err
			}
			sockets := func(yield func(socket, error) bool) {
				for s, err := range g.Kernel.Sockets() {
					if !yield(socket{s, users[s.Inode]}, err) {
						return
					}
				}
			}
			return view.List(g, "NETID STATE LOCAL REMOTE UID INODE USERS", sockets, func(s socket) []any {
				local, remote := s.endpoints()
				return []any{s.netid(), s.State, local, remote, s.UID, s.Inode, strings.Join(s.Users, " ")}
			})
		},
	}
}

// socket is a socket with the processes that hold it.
type socket struct {
	linux.Socket
	Users []string `json:",omitempty"`
}

// users returns who holds which socket, by its inode.
func users(k *linux.Kernel) (map[uint64][]string, error) {
	all := make(map[uint64][]string)
	for p, err := range k.Processes() {
		if err != nil {
			return nil, err
		}
		for f, err := range p.Task.Files() {
			if err != nil {
				return nil, err
			}
			if f.Socket != nil {
				all[f.Inode] = append(all[f.Inode], fmt.Sprintf("%s[%d]/%d", p.Comm, p.PID, f.FD))
			}
		}
	}
	return all, nil
}

func (s socket) netid() string {
	if s.Family == linux.FamilyUnix {
		return map[uint16]string{1: "u_str", 2: "u_dgr", 5: "u_seq"}[s.Type]
	}
	switch s.Protocol {
	case 6:
		return "tcp"
	case 17:
		return "udp"
	}
	return fmt.Sprintf("%d/%d", s.Family, s.Protocol)
}

func (s socket) endpoints() (local, remote string) {
	if s.Family == linux.FamilyUnix {
		if s.Path == "" {
			return "*", "*"
		}
		return s.Path, "*"
	}
	return endpoint(s.Local), endpoint(s.Remote)
}

func endpoint(a netip.AddrPort) string {
	if a.Port() == 0 {
		return fmt.Sprintf("%v:*", a.Addr())
	}
	return a.String()
}
