package engine_test

import "github.com/sluice-gateway/sluice/engine/pipeline"

// softPurge makes all answers stale.
var softPurge = &pipeline.Purge{Soft: true}
