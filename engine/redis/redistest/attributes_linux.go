package redistest

import "syscall"

// attributes end a server with the test that started it, also where that is killed.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
