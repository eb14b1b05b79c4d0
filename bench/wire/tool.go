package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// tool is a program of the system that a run needs.
type tool struct {
	name    string
	apt     string // the packages that bring it
	file    string // for what is no program: where it lies
	version string // the flag that makes it say which it is; "" when nobody asks
}

var (
	wrkTool    = tool{name: "wrk", apt: "wrk", version: "-v"}
	nginxTool  = tool{name: "nginx", apt: "nginx-light", version: "-v"}
	straceTool = tool{name: "strace", apt: "strace"}
	ccTool     = tool{name: "cc", apt: "gcc libc6-dev", version: "--version"}
)

// tools are what the flags make necessary, each once.
func (o *options) tools() []tool {
	needed := []tool{wrkTool, nginxTool}
	if o.syscalls {
		needed = append(needed, straceTool)
	}
	seen := map[tool]bool{}
	for _, t := range needed {
		seen[t] = true
	}
	for _, name := range o.subjects {
		for _, t := range mustRow(name).tools {
			if !seen[t] {
				seen[t] = true
				needed = append(needed, t)
			}
		}
	}
	return needed
}

// find resolves the executables this run needs and names the packages of those missing.
func (l *lab) find() error {
	var missing []error
	for _, t := range l.o.tools() {
		path, err := findTool(t)
		if err != nil {
			missing = append(missing, err)
		}
		l.found[t] = path
	}
	return errors.Join(missing...)
}

// findTool looks in $PATH and where daemons are, which is not in every user's $PATH.
func findTool(t tool) (string, error) {
	if t.file != "" {
		if _, err := os.Stat(t.file); err == nil {
			return t.file, nil
		}
		return "", fmt.Errorf("%s is not installed: apt-get install %s", t.name, t.apt)
	}
	for _, candidate := range []string{t.name, "/usr/sbin/" + t.name, "/usr/local/sbin/" + t.name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: apt-get install %s", t.name, t.apt)
}
