// Package config is what the operator wrote: it reads Kong's declarative files, with the
// additional `gateway:` block, into one checked Document of plain data, or says at which
// lines and why not.
//
// # From text to Document
//
// Read takes files or request bodies through these steps, each in the file named:
//
//	parse_yaml.go, parse_json.go   text → Node, a tree that keeps every position
//	syntax.go, mismatch.go         what is wrong with a text or a value, in plain words
//	environment.go                 properties given as SLUICE_<NAME>
//	secret.go                      ${VAR}, ${{ env "DECK_X" }}, {vault://env/x} → values
//	layer.go                       top-level keys: lists, meta keys, overlays
//	item.go, friendly.go           nested entities lifted out, looser spellings read
//	decode.go, scalar.go, field.go Node → struct over its defaults, by struct tags
//	identity.go, entity.go         IDs, references, uniqueness
//	check.go and its neighbours    what the tags cannot say
//
// Every step collects Faults and goes on, so that one run shows them all. Document holds
// the result: flat lists whose references are IDs. Dump is the way back.
//
// # Two ways of reading
//
// Options.Strict follows Kong's own rules. Otherwise reading is friendly: singular keys,
// repeated top-level lists, routes and targets standing next to what they belong to, a
// single value for a list and a few more are read as what they must mean, each with one
// warning naming the line. A credential makes the consumer it names. Any other reference
// to what the document does not declare is a fault when a declared name is near it, as
// for a typing error. A route whose service is nowhere near declared answers 503, with a
// warning. A plugin may be scoped to what is not declared only in a part of a larger
// document, which declares nothing of that kind: it is then left out, with a warning.
// Strictly every such reference is a fault.
//
// A source that says nothing is refused in both, since it may be a file cut off in the
// middle; `_format_version` alone is a legal empty configuration.
//
// # Settings of plugins
//
// A plugin's settings stay a Node in the Document. The plugin decodes them with Decode
// into a struct whose tags state names, ranges and allowed values; Schema makes a JSON
// Schema of the same tags. What tags cannot say, a Check method reports to a Reporter,
// which knows the line.
//
// # The YAML library
//
// go.yaml.in/yaml/v3 3.0.6 keeps duplicate keys and positions. Reading a file of one
// million consumers with a nested key each (98 MB) into its tree takes 6.4 s and 1.7 GB
// on a 2-core machine; goccy/go-yaml 1.19.2 takes 20 s and 4.5 GB for its tree of the
// same, more than the whole load may. Since files are cut into pieces read in parallel
// (parse_pieces.go), the reader's tree never exists as a whole. All of Read, with 100,000
// routes besides, takes 13 s and 2.1 GB (BenchmarkLoadMillionConsumers, busy machine).
// JSON has a reader of its own, which keeps lines and columns: the same million consumers
// as JSON take it 1.3 s, where the YAML reader, which could read them too, takes 7.7 s.
package config
