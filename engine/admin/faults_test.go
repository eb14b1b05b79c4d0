package admin

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
)

func TestParsePath(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		var got []string
		for _, s := range parsePath(path) {
			text := s.key
			if s.index >= 0 {
				text = fmt.Sprint(s.index, s.name)
			}
			got = append(got, text)
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%s: got %s, want %s", path, strings.Join(got, "|"), want)
		}
	}
	f("", "")
	f("_format_version", "_format_version")
	f(`routes[2] "search": plugins[0] "cors": config.max_age`, "routes|2search|plugins|0cors|config|max_age")
	f(`services[0]: port`, "services|0|port")
	f(`services[10] "a: b[1].c": port`, "services|10a: b[1].c|port")
	f(`services[1] "say \"hi\""`, `services|1say "hi"`)
	f("gateway.proxy_listen", "gateway|proxy_listen")
	f("config.limit[1]", "config|limit|1")
	f("odd[x].y", "odd|[x]|y")
	f(`x "unfinished`, `x|"unfinished`)
}

func FuzzParsePath(f *testing.F) {
	f.Add(`routes[2] "search": plugins[0] "cors": config.max_age`)
	f.Add(`a["`)
	f.Add(`[`)
	f.Add(`"`)
	f.Fuzz(func(t *testing.T, path string) {
		tree := &faultTree{}
		steps := parsePath(path)
		for _, s := range steps {
			if s.index > 1<<20 {
				return // no document has so many
			}
		}
		tree.add(steps, "m")
		if _, err := json.Marshal(tree); err != nil {
			t.Fatal(err)
		}
		_ = tree.appendLua(nil)
	})
}

// TestListNames holds listNames to the document.
func TestListNames(t *testing.T) {
	d := reflect.TypeFor[config.Document]()
	n := 0
	for f := range d.Fields() {
		if f.Type.Kind() != reflect.Slice || f.Type.Elem().Kind() != reflect.Pointer {
			continue
		}
		n++
		if listNames[f.Name] == "" {
			t.Errorf("Document.%s has no name", f.Name)
		}
	}
	if n != len(listNames) {
		t.Errorf("%d lists, %d names", n, len(listNames))
	}
}
