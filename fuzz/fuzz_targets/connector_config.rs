//! Rule files: any text gives rules or one error with a place in the file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match causeway_connector::config::parse("config.yml", text) {
        Ok(config) => {
            let table = config.table();
            assert!(!table.rules().is_empty(), "a checked file has a catch-all");
            let _ = table.find("app.example.test", "/a/b?c");
        }
        Err(error) => assert!(error.to_string().starts_with("config.yml"), "{error}"),
    }
});
