"""What CI systems read: JUnit XML, GitHub annotations and step summaries."""
