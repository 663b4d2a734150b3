"""What every HTTP part of linguad shares."""
