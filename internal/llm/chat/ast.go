package chat

// expr is a node that has a value.
type expr interface {
	eval(r *renderer) (value, error)
}

type (
	constExpr struct{ v value }
	nameExpr  struct{ name string }
	listExpr  struct {
		items []expr
		tuple bool
	}
	dictExpr struct{ keys, vals []expr }
	attrExpr struct { // x.name
		x    expr
		name string
	}
	itemExpr  struct{ x, key expr } // x[key]
	sliceExpr struct{ x, from, to, step expr }
	callExpr  struct {
		fn   expr
		args args
	}
	filterExpr struct {
		x    expr // nil: the text of a filter block
		name string
		fn   filter
		args args
	}
	testExpr struct {
		x    expr
		name string
		fn   test
		args []expr
	}
	condExpr   struct{ test, yes, no expr }
	notExpr    struct{ x expr }
	signExpr   struct{ x expr } // -x
	andExpr    struct{ x, y expr }
	orExpr     struct{ x, y expr }
	binaryExpr struct { // + - * / // % **
		op   string
		x, y expr
	}
	concatExpr  struct{ items []expr } // ~
	compareExpr struct {
		x   expr
		ops []string
		ys  []expr
	}
)

// args are those of a call.
type args struct {
	pos   []expr
	names []string
	named []expr
}

// stmt is a node that does something.
type stmt interface {
	exec(r *renderer) error
}

type (
	textStmt  struct{ text str }
	printStmt struct{ x expr }
	ifStmt    struct {
		tests  []expr
		bodies [][]stmt
		other  []stmt
	}
	forStmt struct {
		target []string // one name, or several for unpacking
		in     expr
		filter expr
		body   []stmt
		empty  []stmt
	}
	setStmt struct {
		names []string // one name, or several for unpacking
		attr  string   // names[0].attr = x, for namespaces
		x     expr
	}
	setBlockStmt struct {
		name   string
		filter *filterExpr
		body   []stmt
	}
	macroStmt struct {
		name     string
		params   []string
		defaults []expr // for the last of the params
		body     []stmt
	}
	filterStmt struct {
		filter *filterExpr
		body   []stmt
	}
	scopeStmt struct { // generation, with
		names  []string
		values []expr
		body   []stmt
	}
	jumpStmt struct{ err error } // break, continue
)
