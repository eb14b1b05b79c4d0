package config

// Catalog is what is known about plugins. A nil Catalog leaves names and settings of
// plugins unchecked. It is used from one goroutine.
type Catalog interface {
	// Built reports whether the plugin has code behind it.
	Built(name string) bool
	// Names are all known plugins, built or not, in no particular order.
	Names() []string
	// Check returns the faults of the settings of a built plugin, their paths relative
	// to its config, as Decode gives them.
	Check(p *Plugin) Faults
}

// Defaults is what a Catalog may also provide: the default settings of a built plugin, a
// struct or a pointer to one, nil when there is none. DocumentSchema and Dump use them to
// describe settings and to find secrets.
type Defaults interface {
	Defaults(name string) any
}

// Checker is implemented by a settings struct that has more to check than its tags say.
// Decode calls it on the decoded value, also on nested structs, once all fields fit.
type Checker interface {
	Check(r *Reporter)
}

// Defaulter is implemented by pointers to structs that occur as elements of lists or maps
// and have defaults of their own; Decode calls it on a new element.
type Defaulter interface {
	SetDefaults()
}
