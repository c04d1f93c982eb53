package authzlib.sql_test

import data.authzlib.sql

test_success_reads_only[note] if {
	some note, text in {
		"select": "SELECT name FROM customers WHERE id = 7",
		"lower case": "select 1",
		"trailing semicolon": "select 1; ",
		"verb in a string": "select * from log where entry = 'drop table x'",
		"semicolon in a string": "select 'a;b'",
		"paired quote in a string": "select 'it''s'",
		"verb within a word": "select updated_at, dropped from t",
		"with": "with t as (select 1) select * from t",
		"parameter": "select * from t where a = $1",
	}
	sql.reads_only(text)
}

test_fail_reads_only[note] if {
	some note, text in {
		"delete": "DELETE FROM customers",
		"mixed case": "dRoP table x",
		"second statement": "select 1; drop table x",
		"second query": "select 1; select 2",
		"two semicolons": "select 1;;",
		"only a comment": "-- select",
		"comment": "select 1 -- drop",
		"comment that runs": "select 1 /*!50000 union delete */",
		"comment as white space": "select/**/1",
		"number sign comment": "select 1 # drop",
		"writing with": "with x as (delete from t returning *) select * from x",
		"select into": "select * into y from x",
		"outfile": "select 1 into outfile '/tmp/a'",
		"lock": "select * from t for update",
		"function that waits": "select pg_sleep(100)",
		"function that reads files": "select load_file('/etc/passwd')",
		"explain that runs": "explain analyze delete from t",
		"unpaired quote": "select 'a",
		"escaped quote": `select '\'; drop table x; -- '`,
		"quote hidden in dollars": "select $$'$$; drop table x; select $$'$$",
		"quote hidden in tagged dollars": "select $a$'$a$; drop table x; select $a$'$a$",
		"quote hidden in backticks": "select `'`; drop table x; select `'`",
		"quote hidden in double quotes": `select "'"; drop table x; select "'"`,
		"quote hidden in brackets": "select [']; drop table x; select [']",
		"quoting by a prefix": "select q'[']'; drop table x; select q'[']'",
		"leading parenthesis hides nothing": "(delete from t)",
		"procedure": "call cleanup()",
		"empty": "",
		"g1 number": 1,
		"g1 list": ["select 1"],
		"g1 null": null,
	}
	not sql.reads_only(text)
}

test_success_destructive if sql.destructive("drop table a; Delete from b") == {"drop", "delete"}

test_success_destructive_in_a_comment if sql.destructive("select 1 /* truncate */") == {"truncate"}

test_fail_destructive[note] if {
	some note, text in {"query": "select updated_at from t", "string": "select 'drop'", "empty": ""}
	sql.destructive(text) == set()
}
