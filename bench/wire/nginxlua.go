package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// nginxModules is where the system's package puts modules of nginx.
const nginxModules = "/usr/lib/nginx/modules"

var nginxLuaModule = tool{
	name: "nginx's Lua module", apt: "libnginx-mod-http-lua", file: nginxModules + "/ngx_http_lua_module.so",
}

var nginxLuaSubject = &subject{
	name:    "nginx-lua",
	about:   "nginx as above with a key check (1,000 keys) and a counter by consumer and minute in Lua (conf/nginx-lua.conf)",
	tools:   []tool{nginxLuaModule},
	prepare: prepareNginxLua,
	verify:  verifyKeys,
}

func prepareNginxLua(l *lab, dir string, p documentPorts) (*program, error) {
	var keys strings.Builder
	for i := range consumerCount {
		fmt.Fprintf(&keys, "%s\t%s\n", consumerKey(i), consumerName(i))
	}
	if err := os.WriteFile(filepath.Join(dir, "keys.txt"), []byte(keys.String()), 0o600); err != nil {
		return nil, err
	}
	return prepareNginx("nginx-lua.conf")(l, dir, p)
}
