"""What is asked for, made into the API's request: names are looked up, local files read and measured."""
